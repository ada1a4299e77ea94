#include "server/server_config.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/server/settings_rig.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

TEST_CASE("without any settings the server listens on this machine only") {
  const ServerConfig config = settings({});
  CHECK(config.host == "127.0.0.1");
  CHECK(config.port == 8000);
  CHECK(config.grpc_port == 8001);
  CHECK(config.model.empty());
  CHECK(config.max_body_size == 64u << 20);
  CHECK(config.api_keys.empty());
  CHECK(config.attention == "auto");
  CHECK(config.generation_config == "auto");
  CHECK_FALSE(config.accept_any_model);
  CHECK_FALSE(config.moba_top_k);
  CHECK_FALSE(config.has_full_layers);
  CHECK(config.moba_full_last == 0);
  CHECK_FALSE(config.no_prefix_cache);
}

TEST_CASE("a flag beats the environment and the environment beats the file") {
  const TemporaryFile file("port = 1000\nmax-num-seqs = 10\ntext-threads = 7\n");
  const Environment environment({{"QUIRE_PORT", "2000"}, {"QUIRE_MAX_NUM_SEQS", "20"}});
  const ServerConfig config = settings({"--config", file.path(), "--port", "3000"});
  CHECK(config.port == 3000);
  CHECK(config.max_num_seqs == 20);
  CHECK(config.text_threads == 7);
  CHECK(config.max_step_tokens == 4096);
  CHECK(config.max_step_ms == 100);
  CHECK(settings({"--port=3000"}).port == 3000);
}

TEST_CASE("the environment may name the file and set lists and switches") {
  const TemporaryFile file("host = \"0.0.0.0\"\n");
  const Environment environment({{"QUIRE_CONFIG", file.path()},
                                 {"QUIRE_MOBA_FULL_LAYERS", "0,3"},
                                 {"QUIRE_NO_GRPC", "true"},
                                 {"QUIRE_NO_PREFIX_CACHE", "false"},
                                 {"QUIRE_API_KEY", "sk-1"},
                                 {"QUIRE_HTTP_THREADS", ""}});  // empty counts as absent
  const ServerConfig config = settings({});
  CHECK(config.host == "0.0.0.0");
  CHECK(config.moba_full_layers == std::vector<int32_t>{0, 3});
  CHECK(config.has_full_layers);
  CHECK(config.no_grpc);
  CHECK_FALSE(config.no_prefix_cache);
  CHECK(config.api_keys == std::vector<std::string>{"sk-1"});
  CHECK(config.http_threads == 2);
}

TEST_CASE("a file may set everything that a flag can") {
  const TemporaryFile file(R"(
# a comment
model = "/models/m"
served-model-name = "name"
backend = "cpu"
weights = "int8"
generation-config = "none"
max-model-len = 4096
kv-cache-memory = "2GiB"
kv-dtype = "int8"
no-prefix-cache = true
accept-any-model = true
moba-block-size = 32
moba-top-k = 4
moba-full-layers = [0, 2]
moba-schedule = "1000:4,5000:8:2"
moba-digest = "mean"
beyond-model-len = true
moba-decode = "full"
attention = "moba"
api-key = ["sk-1", "sk-2"]
max-body-size = 1048576
keepalive = 2.5
log-level = "warn"
)");
  const ServerConfig config = settings({"--config", file.path()});
  CHECK(config.model == "/models/m");
  CHECK(config.served_model_name == "name");
  CHECK(config.backend == "cpu");
  CHECK(config.weights == "int8");
  CHECK(config.generation_config == "none");
  CHECK(config.max_model_len == 4096);
  CHECK(config.accept_any_model);
  CHECK(config.kv_cache_memory == uint64_t{2} << 30);
  CHECK(config.no_prefix_cache);
  CHECK(config.moba_block_size == 32);
  CHECK(config.kv_dtype == "int8");
  CHECK(config.moba_top_k == 4);
  CHECK(config.moba_full_layers == std::vector<int32_t>{0, 2});
  CHECK(config.has_full_layers);
  CHECK(config.moba_schedule == "1000:4,5000:8:2");
  CHECK(config.moba_digest == "mean");
  CHECK(config.beyond_model_len);
  CHECK(config.moba_decode == "full");
  CHECK(config.attention == "moba");
  CHECK(config.api_keys == std::vector<std::string>{"sk-1", "sk-2"});
  CHECK(config.max_body_size == 1u << 20);
  CHECK(config.keepalive == 2.5);
  CHECK(config.log_level == "warn");
}

TEST_CASE("layers of full attention are numbers, the last ones, or both") {
  const auto check = [](const ServerConfig& config, std::vector<int32_t> layers, int32_t last) {
    CHECK(config.has_full_layers);
    CHECK(config.moba_full_layers == layers);
    CHECK(config.moba_full_last == last);
  };
  check(settings({"--moba-full-layers", "last:3"}), {}, 3);
  check(settings({"--moba-full-layers", "0,5,last:3"}), {0, 5}, 3);
  check(settings({"--moba-full-layers=last:2,0"}), {0}, 2);
  const TemporaryFile text("moba-full-layers = \"last:4\"\n");
  check(settings({"--config", text.path()}), {}, 4);
  const TemporaryFile list("moba-full-layers = [0, \"last:3\"]\n");
  check(settings({"--config", list.path()}), {0}, 3);
  const Environment environment({{std::string("QUIRE_MOBA_FULL_LAYERS"), std::string("1,last:2")}});
  check(settings({}), {1}, 2);
  check(settings({"--config", list.path()}), {1}, 2);
  check(settings({"--moba-full-layers", "7"}), {7}, 0);
}

TEST_CASE("an unknown setting is refused by its name wherever it stands") {
  CHECK_THAT(complaint_about({"--no-such-flag", "1"}),
             StartsWith("exit 2: ") && Contains("--no-such-flag"));
  CHECK_THAT(complaint_about({"stray"}), StartsWith("exit 2: ") && Contains("stray"));
  const TemporaryFile file("port = 1000\nno-such-key = 1\n");
  CHECK_THAT(complaint_about({"--config", file.path()}),
             StartsWith("exit 2: ") && Contains("no-such-key"));
  const TemporaryFile section("[server]\nport = 1000\n");
  CHECK_THAT(complaint_about({"--config", section.path()}),
             StartsWith("exit 2: ") && Contains("section server"));
  CHECK_THAT(complaint_about({"--config", "/no/such/file.toml"}),
             StartsWith("exit 2: ") && Contains("/no/such/file.toml"));
}

TEST_CASE("a bad value is refused with the flag's name") {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"--port", "abc"},
      {"--port", "65536"},
      {"--port", "-1"},
      {"--port", "80.5"},
      {"--grpc-port", "99999"},
      {"--threads", "-1"},
      {"--max-num-seqs", "0"},
      {"--max-model-len", "-5"},
      {"--max-model-len", "1e30"},
      {"--kv-cache-memory", "lots"},
      {"--kv-cache-memory", "-1"},
      {"--kv-cache-memory", "99999999999GiB"},
      {"--max-body-size", "-1"},
      {"--max-body-size", "0"},
      {"--max-body-size", "18446744073709551615"},
      {"--max-unsent-stream-bytes", "18446744073709551615"},
      {"--kv-dtype", "int4"},
      {"--generation-config", "some"},
      {"--attention", "sparse"},
      {"--moba-prefill", "auto"},
      {"--moba-top-k", "0"},
      {"--moba-digest", "max"},
      {"--moba-block-size", "65537"},
      {"--moba-full-layers", "a"},
      {"--moba-full-layers", "-1"},
      {"--moba-full-layers", "1.5"},
      {"--moba-full-layers", "99999999999"},
      {"--moba-full-layers", "0,last:"},
      {"--moba-full-layers", "last:0"},
      {"--moba-full-layers", "last:-1"},
      {"--moba-full-layers", "last:2x"},
      {"--moba-full-layers", "first:2"},
      {"--request-timeout", "-1"},
      {"--request-timeout", "nan"},
      {"--drain-timeout", "nan"},
      {"--drain-timeout", "inf"},
      {"--keepalive", "0"},
      {"--keepalive", "nan"},
      {"--log-level", "loud"},
      {"--max-queued-tokens", "0"},
      {"--http-threads", "0"}};
  for (const auto& [flag, value] : bad) {
    CAPTURE(flag, value);
    CHECK_THAT(complaint_about({flag + "=" + value}), StartsWith("exit 2: ") && Contains(flag));
    const std::string name = flag.substr(2);
    const TemporaryFile file(name + " = \"" + value + "\"\n");
    CHECK_THAT(complaint_about({"--config", file.path()}),
               StartsWith("exit 2: ") && Contains(name));
  }
  const Environment environment({{std::string("QUIRE_PORT"), std::string("many")}});
  CHECK_THAT(complaint_about({}), StartsWith("exit 2: ") && Contains("--port"));
}

TEST_CASE("sizes may be written with units") {
  CHECK(settings({"--kv-cache-memory", "8GiB"}).kv_cache_memory == uint64_t{8} << 30);
  CHECK(settings({"--kv-cache-memory", "512MiB"}).kv_cache_memory == uint64_t{512} << 20);
  CHECK(settings({"--kv-cache-memory", "1000"}).kv_cache_memory == 1000);
  CHECK(settings({"--max-body-size=1KiB"}).max_body_size == 1024);
}

TEST_CASE("help and version end well, a complaint is one line") {
  CHECK_THAT(complaint_about({"--help"}), StartsWith("exit 0: ") && Contains("--kv-cache-memory"));
  CHECK_THAT(complaint_about({"--version"}), StartsWith("exit 0: quire ") && Contains("0."));
  CHECK(complaint_about({"--port", "abc"}).find('\n') == std::string::npos);
}

TEST_CASE("keys come from flags and from a file with comments and blank lines") {
  const TemporaryFile file(
      "# team A\nsk-1\n\n  \t\nsk-2  \r\n  sk-3\n  # team B\nsk-#4\nsk-5 with a blank", ".keys");
  const ServerConfig config = settings({"--api-key", "sk-0", "--api-key-file", file.path()});
  CHECK(config.api_keys ==
        std::vector<std::string>{"sk-0", "sk-1", "sk-2", "sk-3", "sk-#4", "sk-5 with a blank"});
}

TEST_CASE("several keys may be given as flags") {
  const ServerConfig config = settings({"--api-key", "sk-1", "--api-key", "sk-2"});
  CHECK(config.api_keys == std::vector<std::string>{"sk-1", "sk-2"});
}

TEST_CASE("keys that would let everybody in are refused") {
  const TemporaryFile comments("# only comments\n\n", ".keys");
  CHECK_THAT(complaint_about({"--api-key-file", comments.path()}),
             Contains("--api-key-file") && Contains(comments.path()));
  CHECK_THAT(complaint_about({"--api-key-file", "/no/such/keys"}),
             Contains("--api-key-file") && Contains("/no/such/keys"));
  CHECK_THAT(complaint_about({"--api-key", ""}), Contains("--api-key"));
  CHECK_THAT(complaint_about({"--api-key="}), Contains("--api-key"));
}

}  // namespace
}  // namespace quire
