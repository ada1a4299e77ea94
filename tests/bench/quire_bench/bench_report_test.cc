#include "tests/bench/quire_bench/bench_report.h"

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/bench/quire_bench/serve_report.h"
#include "tests/bench/quire_bench/shapes.h"

namespace quire::bench {
namespace {

BenchOptions parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "quire-bench");
  return parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

Report run_report(const BenchOptions& options) {
  BenchModel model(options);
  return {.options = options,
          .machine = read_machine_facts(),
          .peaks = options.peaks,
          .config = model.config(),
          .moba = model.moba(),
          .model_name = options.shape,
          .backend = std::string(model.backend().description()),
          .weight_types = model.weight_types(),
          .weight_bytes = model.weight_bytes(),
          .measurements = run_cases(model, options)};
}

}  // namespace

TEST_CASE("A report on the bundled model says what was measured and counted", "[bench_report]") {
  const Report report =
      run_report(parse({"prefill", "--depth", "0,200", "--tokens", "16", "--repetitions", "2",
                        "--threads", "2", "--peak-gflops", "100", "--peak-gbps", "10"}));
  const auto json = nlohmann::json::parse(report_json(report).dump());
  CHECK(json.at("tool") == "quire-bench");
  CHECK_FALSE(json.at("machine").at("cpu").get<std::string>().empty());
  CHECK_FALSE(json.at("machine").at("allowed_cpus").empty());
  CHECK(json.at("model").at("layers") == 4);
  CHECK(json.at("model").at("block_size") == 64);
  CHECK(json.at("model").at("weights") == "bf16");
  CHECK(json.at("peaks").at("gflops") == 100);
  REQUIRE(json.at("results").size() == 2);
  const auto& deep = json.at("results")[1];
  CHECK(deep.at("mode") == "prefill");
  CHECK(deep.at("depth") == 200);
  CHECK(deep.at("seconds").at("all").size() == 2);
  CHECK(deep.at("cpu_seconds").at("min") > 0.0);
  CHECK(deep.at("tokens_per_second").at("median") > 0.0);
  CHECK(deep.at("work").at("linear_flops") > 0.0);
  CHECK(deep.at("work").at("bytes") > 0.0);
  CHECK(deep.at("floor").at("share") > 0.0);
  CHECK(deep.at("op_seconds").at("matmul") > 0.0);
  const std::string table = report_table(report);
  CHECK(table.find("| prefill | 200 | 1 | 16 |") != std::string::npos);
  CHECK(table.find("peaks: 100 GFLOP/s, 10.0 GB/s") != std::string::npos);
}

// 200 million tokens of 128 KiB each: beyond every machine that runs this test.
TEST_CASE("A case that does not fit into memory is named, the others run", "[bench_report]") {
  const Report report = run_report(
      parse({"decode", "--shape", "8,64,64,64,64,64,64", "--depth", "0,200000000", "--steps", "1",
             "--repetitions", "1", "--peak-gflops", "100", "--peak-gbps", "10"}));
  const auto json = report_json(report);
  CHECK(json.at("results")[0].contains("seconds"));
  CHECK(json.at("results")[1].at("skipped").get<std::string>().find("MiB") != std::string::npos);
  CHECK(report_table(report).find("left out: its cache needs") != std::string::npos);
}

TEST_CASE("Shapes have the sizes that they are named after", "[bench_report]") {
  CHECK(random_model_bytes(shape_config("llama-3.2-1b")) == 2 * int64_t{1'235'814'400});
  CHECK(random_model_bytes(shape_config("llama-3.1-8b")) == 2 * int64_t{8'030'261'248});
  const ModelConfig own = shape_config("2,16,4,2,8,40,24");
  CHECK(own.num_layers == 2);
  CHECK(own.group_size() == 2);
  CHECK(own.vocab_size == 24);
  for (const char* bad :
       {"", "huge", "1,2,3", "2,16,4,2,8,40,24,1", "2,16,4,2,8,40,x", "2,16,4,2,8,40,0"}) {
    CHECK_THROWS_AS(shape_config(bad), std::invalid_argument);
  }
}

TEST_CASE("A percentile is one of the values, by nearest rank", "[bench_report]") {
  CHECK(percentile({}, 0.5) == 0);
  CHECK(percentile({7}, 0.99) == 7);
  CHECK(percentile({4, 1, 3, 2}, 0.5) == 2);
  CHECK(percentile({4, 1, 3, 2}, 0.95) == 4);
  CHECK(percentile({4, 1, 3, 2}, 1.0) == 4);
}

TEST_CASE("Command lines that cannot be run are refused", "[bench_report]") {
  CHECK(parse({"decode", "--batch", "1,8", "--depth", "0,64"}).batch_sizes ==
        std::vector<int32_t>{1, 8});
  CHECK(parse({"prefill", "--whole", "--depth", "64"}).num_repetitions == 1);
  for (const std::vector<const char*>& bad : {std::vector<const char*>{},
                                              {"fill"},
                                              {"prefill", "--whole"},
                                              {"decode", "--depth", "-1"},
                                              {"prefill", "--attention", "none"},
                                              {"prefill", "--shape", "tiny", "--model", "x"}}) {
    try {
      parse(bad);
      FAIL("accepted");
    } catch (const CommandLineExit& exit) {
      CHECK(exit.exit_code == 2);
      CHECK_FALSE(exit.text.empty());
    }
  }
}

}  // namespace quire::bench
