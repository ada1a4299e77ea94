#include "models/config_defaults.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "models/model_config.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

TEST_CASE("of a file that names the architecture alone, every key has transformers' default") {
  struct Expected {
    std::string architecture, model_type;
    std::vector<int32_t> numbers;  // vocabulary, widths, layers, heads, KV heads, head_dim, context
    float epsilon;
    double theta;
    bool is_tied;
  };
  // As transformers 5.23 prints them for the classes' from_dict({}).
  const auto expected = GENERATE(values<Expected>({
      {"LlamaForCausalLM", "llama", {32000, 4096, 11008, 32, 32, 32, 128, 2048}, 1e-6f, 1e4, false},
      {"MistralForCausalLM",
       "mistral",
       {32000, 4096, 14336, 32, 32, 8, 128, 131072},
       1e-6f,
       1e4,
       false},
      {"Qwen2ForCausalLM",
       "qwen2",
       {151936, 4096, 22016, 32, 32, 32, 128, 32768},
       1e-6f,
       1e4,
       false},
      {"Qwen3ForCausalLM",
       "qwen3",
       {151936, 4096, 22016, 32, 32, 32, 128, 32768},
       1e-6f,
       1e4,
       false},
      {"Phi3ForCausalLM", "phi3", {32064, 3072, 8192, 32, 32, 32, 96, 4096}, 1e-5f, 1e4, false},
      {"SmolLM3ForCausalLM",
       "smollm3",
       {128256, 2048, 11008, 36, 16, 4, 128, 32768},
       1e-6f,
       2e6,
       true},
  }));
  CAPTURE(expected.architecture);
  for (const std::string& text : {R"({"architectures": [")" + expected.architecture + "\"]}",
                                  R"({"model_type": ")" + expected.model_type + "\"}"}) {
    const ModelConfig config = parse_model_config(text, "config.json");
    CHECK(config.architecture == expected.architecture);
    CHECK(std::vector<int32_t>{config.vocab_size, config.hidden_size, config.intermediate_size,
                               config.num_layers, config.num_heads, config.num_kv_heads,
                               config.head_dim,
                               config.max_position_embeddings} == expected.numbers);
    CHECK(config.rms_norm_eps == expected.epsilon);
    CHECK(config.rope.theta == expected.theta);
    CHECK(config.tie_word_embeddings == expected.is_tied);
  }
}

TEST_CASE("an end-of-sequence id that nobody names is transformers' own") {
  const auto ends = [](const std::string& config, const std::string& generation) {
    const TemporaryFolder folder;
    folder.write("config.json", config);
    if (!generation.empty()) folder.write("generation_config.json", generation);
    return load_model_config(folder.path()).eos_token_ids;
  };
  const std::vector<int32_t> none, two{2}, nine{9};
  CHECK(ends(R"({"model_type": "llama"})", "") == two);
  CHECK(ends(R"({"model_type": "llama", "eos_token_id": null})", "") == none);
  CHECK(ends(R"({"model_type": "llama", "vocab_size": 2})", "") == none);
  CHECK(ends(R"({"model_type": "llama"})", R"({"eos_token_id": 9})") == nine);
  CHECK(ends(R"({"model_type": "llama"})", "{}") == none);
  CHECK(ends(R"({"model_type": "qwen2"})", "") == none);
}

}  // namespace
}  // namespace quire::test
