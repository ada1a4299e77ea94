#include "models/model_config.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

/// tiny_config() with one key's value replaced, or the key removed if `value` is empty.
std::string config_with(const std::string& key, const std::string& value) {
  std::string text = tiny_config();
  const size_t begin = text.find("\"" + key + "\"");
  REQUIRE(begin != std::string::npos);
  const size_t colon = text.find(':', begin);
  size_t end = colon;
  int depth = 0;
  while (depth > 0 || (text[end] != ',' && text[end] != '}')) {
    if (text[end] == '[') ++depth;
    if (text[end] == ']') --depth;
    ++end;
  }
  if (value.empty()) {
    return text.replace(begin, end + 1 - begin, "");
  }
  return text.replace(colon + 1, end - colon - 1, value);
}

std::string error_of(const std::string& text) {
  return load_error_of([&] { parse_model_config(text, "config.json"); });
}

TEST_CASE("the bundled model's config.json is read completely") {
  const ModelConfig config = load_model_config(QUIRE_BUNDLED_MODEL);
  CHECK(config.architecture == "LlamaForCausalLM");
  CHECK(config.head_dim == 64);
  CHECK(config.group_size() == 2);
  CHECK(config.tie_word_embeddings);
  CHECK(config.bos_token_id == 1);
  CHECK(config.eos_token_ids == std::vector<int32_t>{6});
  REQUIRE(config.moba);
  CHECK(config.moba->block_size == 64);
  CHECK(config.moba->top_k == 4);
  CHECK(config.moba->decode == AttentionMode::kMoba);
}

TEST_CASE("rotation frequencies are theta^(-2i / head_dim)") {
  const ModelConfig config = parse_model_config(tiny_config(), "config.json");
  const std::vector<double> frequencies = rope_frequencies(config, 4096).inv_freq;
  REQUIRE(frequencies.size() == 4);
  CHECK(frequencies[0] == 1.0);
  CHECK(frequencies[1] == Approx(0.1).epsilon(1e-15));
  CHECK(frequencies[3] == Approx(1e-3).epsilon(1e-15));
}

TEST_CASE("rope_theta may be so large that most dimensions stand still over millions of tokens") {
  const ModelConfig config = parse_model_config(config_with("rope_theta", "1e30"), "config.json");
  CHECK(config.rope.theta == 1e30);
  const double slowest = rope_frequencies(config, 4096).inv_freq.back();
  CHECK(slowest == Approx(std::pow(1e30, -6.0 / 8)).epsilon(1e-12));
  CHECK_THAT(error_of(config_with("rope_theta", "1e31")), Contains("'rope_theta'"));
}

TEST_CASE("absent fields take their Hugging Face defaults") {
  CHECK(parse_model_config(config_with("head_dim", ""), "c").head_dim == 4);
  CHECK(parse_model_config(config_with("num_key_value_heads", ""), "c").num_kv_heads == 4);
  CHECK(parse_model_config(config_with("rope_theta", ""), "c").rope.theta == 10000.0);
  CHECK_FALSE(parse_model_config(config_with("tie_word_embeddings", ""), "c").tie_word_embeddings);
  CHECK_FALSE(parse_model_config(tiny_config(), "c").moba);
  CHECK(parse_model_config(tiny_config(R"(, "rope_parameters":
      {"rope_type": "default", "rope_theta": 500000.0})"),
                           "c")
            .rope.theta == 500000.0);
}

TEST_CASE("end-of-sequence ids: a number, a list, and those of generation_config.json") {
  CHECK(parse_model_config(config_with("eos_token_id", "[3, 5, 3]"), "c").eos_token_ids ==
        std::vector<int32_t>{3, 5});
  CHECK(parse_model_config(config_with("eos_token_id", "null"), "c").eos_token_ids.empty());

  const TemporaryFolder folder;
  folder.write("config.json", tiny_config());
  folder.write("generation_config.json", R"({"eos_token_id": [2, 9], "temperature": 0.6})");
  CHECK(load_model_config(folder.path()).eos_token_ids == std::vector<int32_t>{2, 9});
}

TEST_CASE("a null where there must be a number is no absent key") {
  for (const std::string key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "rms_norm_eps", "max_position_embeddings"}) {
    CAPTURE(key);
    CHECK(error_of(config_with(key, "null")) == "config.json: '" + key + "': must not be null");
  }
  // Here null has a meaning of its own: as many as query heads.
  CHECK(parse_model_config(
            R"({"model_type": "mistral", "num_attention_heads": 4, "num_key_value_heads": null})",
            "c")
            .num_kv_heads == 4);
}

TEST_CASE("wrong types and absurd values are refused with key and bounds") {
  for (const std::string value :
       {"0", "-1", "2.5", "16.0", "\"16\"", "true", "[16]", "{}", "4294967312",
        "18446744073709551615", "99999999999999999999999", "-9223372036854775808"}) {
    CAPTURE(value);
    CHECK_THAT(error_of(config_with("hidden_size", value)), Contains("'hidden_size': expected an "
                                                                     "integer in [1, 131072]"));
  }
  CHECK_THAT(error_of(config_with("rms_norm_eps", "0")), Contains("'rms_norm_eps'"));
  CHECK_THAT(error_of(config_with("rope_theta", "-1e4")), Contains("'rope_theta'"));
  CHECK_THAT(error_of(config_with("rope_theta", "1e999")), Contains("config.json"));
  CHECK_THAT(error_of(config_with("head_dim", "7")), Contains("even number"));
  CHECK_THAT(error_of(config_with("num_key_value_heads", "3")),
             Contains("'num_key_value_heads': 3 does not divide num_attention_heads 4"));
  CHECK_THAT(error_of(config_with("eos_token_id", "24")), Contains("'eos_token_id'"));
  CHECK_THAT(error_of(config_with("eos_token_id", "[2, -1]")), Contains("'eos_token_id'"));
}

TEST_CASE("an unknown architecture is answered with the known ones") {
  CHECK_THAT(error_of(config_with("architectures", "[\"GPT2LMHeadModel\"]")),
             Contains("unknown architecture 'GPT2LMHeadModel'; known: LlamaForCausalLM"));
  // Before anything else: the other keys of a foreign folder need not make sense here.
  CHECK_THAT(error_of(R"({"architectures": ["X"]})"), Contains("unknown architecture 'X'"));
  CHECK_THAT(error_of("{}"), Contains("'architectures': missing"));
  CHECK_THAT(error_of(R"({"model_type": "gpt2"})"), Contains("'architectures': missing"));
  CHECK_THAT(error_of(config_with("architectures", "[]")), Contains("'architectures'"));
}

TEST_CASE("fields that would change the mathematics are refused by name") {
  const auto [key, value] = GENERATE(table<std::string, std::string>({
      {"qkv_bias", "true"},
      {"qk_layernorm", "true"},
      {"no_rope_layers", "[1, 0]"},
      {"sliding_window", "4096"},
      {"partial_rotary_factor", "0.5"},
      {"layer_types", R"(["full_attention", "sliding_attention"])"},
      {"final_logit_softcapping", "30.0"},
      {"logits_scaling", "8.0"},
      {"num_local_experts", "8"},
      {"is_causal", "false"},
  }));
  CAPTURE(key, value);
  const std::string error = error_of(tiny_config(", \"" + key + "\": " + value));
  CHECK_THAT(error, Contains("'" + key + "'"));
  CHECK_THAT(error, Contains("not supported"));
  CHECK_THAT(error_of(config_with("hidden_act", "\"gelu\"")),
             Contains("'hidden_act': not supported: \"gelu\" (must be \"silu\")"));
}

TEST_CASE("the same fields at their neutral values are accepted") {
  CHECK(error_of(tiny_config(R"(, "rope_scaling": null, "attention_bias": false,
      "mlp_bias": false, "sliding_window": 4096, "use_sliding_window": false,
      "quantization_config": null, "partial_rotary_factor": 1,
      "layer_types": ["full_attention", "full_attention"], "pretraining_tp": 1)")) == "");
  CHECK(error_of(config_with("hidden_act", "\"swish\"")) == "");  // another name of silu
}

/// tiny_config() of another architecture.
ModelConfig variant(const std::string& architecture, const std::string& more_keys = "") {
  std::string text = tiny_config(more_keys);
  text.replace(text.find("LlamaForCausalLM"), 16, architecture);
  return parse_model_config(text, "config.json");
}

std::string variant_error(const std::string& architecture, const std::string& more_keys) {
  return load_error_of([&] { variant(architecture, more_keys); });
}

TEST_CASE("biases, norms of heads and fused projections come with the architecture") {
  const ModelConfig llama = variant("LlamaForCausalLM", R"(, "attention_bias": true)");
  CHECK((llama.has_qkv_bias && llama.has_output_bias && !llama.has_mlp_bias));
  CHECK(variant("LlamaForCausalLM", R"(, "mlp_bias": true)").has_mlp_bias);
  const ModelConfig qwen2 = variant("Qwen2ForCausalLM");
  CHECK((qwen2.has_qkv_bias && !qwen2.has_output_bias && !qwen2.has_head_norm));
  const ModelConfig qwen3 = variant("Qwen3ForCausalLM", R"(, "attention_bias": false)");
  CHECK((qwen3.has_head_norm && !qwen3.has_qkv_bias));
  CHECK(variant("Phi3ForCausalLM").has_fused_projections);
  for (const std::string name : {"MistralForCausalLM", "Qwen2ForCausalLM", "Phi3ForCausalLM"}) {
    CAPTURE(name);
    CHECK_THAT(variant_error(name, R"(, "attention_bias": true)"), Contains("'attention_bias'"));
    CHECK_THAT(variant_error(name, R"(, "mlp_bias": true)"), Contains("'mlp_bias'"));
  }
  CHECK_THAT(variant_error("Qwen3ForCausalLM", R"(, "attention_bias": 1)"),
             Contains("'attention_bias': expected true or false"));
}

TEST_CASE("windows: which layers have one, and what an absent field means") {
  const std::vector<int32_t> none, both{0, 1}, last{1};
  const auto layers = [](const std::string& name, const std::string& more) {
    return variant(name, more).windowed_layers;
  };
  // transformers gives Mistral a window of 4096 unless the file says null.
  CHECK(variant("MistralForCausalLM").sliding_window == 4096);
  CHECK(variant("MistralForCausalLM", R"(, "sliding_window": null)").sliding_window == 0);
  CHECK(layers("MistralForCausalLM", R"(, "sliding_window": 7)") == both);
  CHECK(variant("MistralForCausalLM", R"(, "sliding_window": 7)").window_of(1) == 7);
  CHECK(layers("Phi3ForCausalLM", "") == none);
  CHECK(layers("Phi3ForCausalLM", R"(, "sliding_window": 2047)") == both);
  CHECK(layers("Qwen2ForCausalLM", R"(, "sliding_window": 7)") == none);
  CHECK(layers("Qwen2ForCausalLM",
               R"(, "use_sliding_window": true, "sliding_window": 7, "max_window_layers": 1)") ==
        last);
  CHECK(variant("Qwen2ForCausalLM", R"(, "use_sliding_window": true, "max_window_layers": 0)")
            .sliding_window == 4096);
  CHECK(layers("Qwen3ForCausalLM", R"(, "use_sliding_window": true, "sliding_window": 7,
                   "layer_types": ["sliding_attention", "full_attention"])") ==
        std::vector<int32_t>{0});
  CHECK(layers("SmolLM3ForCausalLM",
               R"(, "use_sliding_window": true, "sliding_window": 7, "no_rope_layers": [1, 0])") ==
        last);

  CHECK_THAT(variant_error("MistralForCausalLM", R"(, "sliding_window": 0)"),
             Contains("'sliding_window': expected an integer in [1, "));
  CHECK_THAT(variant_error("MistralForCausalLM",
                           R"(, "layer_types": ["full_attention", "sliding_attention"])"),
             Contains("'layer_types': not supported"));
  CHECK_THAT(variant_error("Qwen3ForCausalLM",
                           R"(, "layer_types": ["sliding_attention", "full_attention"])"),
             Contains("'layer_types': \"sliding_attention\" without a sliding_window"));
  CHECK_THAT(variant_error("Qwen3ForCausalLM", R"(, "layer_types": ["full_attention"])"),
             Contains("'layer_types': expected 2 layers, got 1"));
  CHECK_THAT(variant_error("Qwen3ForCausalLM", R"(, "layer_types": ["chunked_attention", "x"])"),
             Contains("'layer_types': not supported: \"chunked_attention\""));
}

TEST_CASE("SmolLM3: layers without rotation, a theta and tied embeddings of its own") {
  const std::vector<int32_t> none, first{0}, last{1};
  CHECK(variant("SmolLM3ForCausalLM").unrotated_layers == none);  // every fourth, of two
  CHECK(variant("SmolLM3ForCausalLM", R"(, "no_rope_layer_interval": 2)").unrotated_layers == last);
  const ModelConfig config = variant("SmolLM3ForCausalLM", R"(, "no_rope_layers": [0, 1])");
  CHECK(config.unrotated_layers == first);
  CHECK((!config.is_rotated_layer(0) && config.is_rotated_layer(1)));
  CHECK_THAT(variant_error("SmolLM3ForCausalLM", R"(, "no_rope_layers": [1])"),
             Contains("'no_rope_layers': expected 2 layers, got 1"));
  CHECK_THAT(variant_error("SmolLM3ForCausalLM", R"(, "no_rope_layers": [1, 2])"),
             Contains("'no_rope_layers'"));
  const auto with = [](const std::string& key) {
    std::string text = config_with(key, "");
    text.replace(text.find("LlamaForCausalLM"), 16, "SmolLM3ForCausalLM");
    return parse_model_config(text, "config.json");
  };
  CHECK(with("rope_theta").rope.theta == 2e6);
  CHECK(with("tie_word_embeddings").tie_word_embeddings);
}

TEST_CASE("only Phi-3 rotates part of a head") {
  const ModelConfig config = variant("Phi3ForCausalLM", R"(, "partial_rotary_factor": 0.75)");
  CHECK(config.rope.rotary_dim == 6);
  CHECK(rope_frequencies(config, 4096).inv_freq.size() == 3);
  CHECK_THAT(variant_error("Qwen2ForCausalLM", R"(, "partial_rotary_factor": 0.75)"),
             Contains("'partial_rotary_factor': not supported: 0.75"));
  CHECK_THAT(variant_error("Phi3ForCausalLM", R"(, "partial_rotary_factor": 0.4)"),
             Contains("(3 of 8 dimensions)"));
}

TEST_CASE("the moba section is strict") {
  const auto with_moba = [](const std::string& section) {
    return error_of(tiny_config(", \"moba\": " + section));
  };
  CHECK(with_moba(R"({"block_size": 4, "top_k": 1, "full_attention_layers": [0, 1],
      "prefill": "full", "decode": "full"})") == "");
  CHECK_THAT(with_moba(R"({"block_size": 4})"), Contains("missing key 'moba.top_k'"));
  CHECK_THAT(with_moba(R"({"block_size": 0, "top_k": 1})"), Contains("'moba.block_size'"));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 0})"), Contains("'moba.top_k'"));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 1, "decode_top_k": 0})"),
             Contains("'moba.decode_top_k'"));
  CHECK_THAT(with_moba(R"({"block_size": 4, "topk": 2, "top_k": 2})"),
             Contains("'moba.topk': unknown key"));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 2, "decode": "sparse"})"),
             Contains("'moba.decode': expected \"moba\" or \"full\", got \"sparse\""));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 2, "full_attention_layers": [2]})"),
             Contains("'moba.full_attention_layers'"));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 2, "full_attention_layers": [1, 1]})"),
             Contains("ascending"));
  const auto with_schedule = [&](const std::string& stages) {
    return with_moba(R"({"block_size": 4, "top_k": 2, "schedule": )" + stages + "}");
  };
  CHECK(with_schedule(R"([{"from": 100, "group": 2}, {"from": 400, "group": 8, "top_k": 3}])") ==
        "");
  CHECK(with_schedule("[]") == "");
  CHECK_THAT(with_schedule("4"), Contains("'moba.schedule': expected a list of stages"));
  CHECK_THAT(with_schedule(R"([{"from": 100}])"), Contains("'moba.schedule.group'"));
  CHECK_THAT(with_schedule(R"([{"from": 0, "group": 2}])"), Contains("'moba.schedule.from'"));
  CHECK_THAT(with_schedule(R"([{"from": 9, "group": 2, "k": 1}])"), Contains("'moba.schedule.k'"));
  CHECK_THAT(with_schedule(R"([{"from": 9, "group": 3}])"), Contains("3 is not a power of two"));
  CHECK_THAT(with_schedule(R"([{"from": 9, "group": 4}, {"from": 9, "group": 8}])"),
             Contains("must grow") && Contains("9:8 after 9:4"));
  CHECK_THAT(with_schedule(R"([{"from": 9, "group": 4}, {"from": 10, "group": 2}])"),
             Contains("must grow"));
  CHECK(with_moba(R"({"block_size": 4, "top_k": 2, "digest": "cuboid-mean"})") == "");
  CHECK_THAT(
      with_moba(R"({"block_size": 4, "top_k": 2, "digest": "max"})"),
      Contains("'moba.digest': expected \"mean\", \"bounds\" or \"cuboid-mean\", got \"max\""));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 2, "digest": 1})"), Contains("'moba.digest'"));
  CHECK_THAT(with_moba(R"({"block_size": 4, "top_k": 2, "digest": "bounds",
      "schedule": [{"from": 9, "group": 4}]})"),
             Contains("moba.schedule: expected none beside moba.digest bounds, got 9:4"));
  CHECK_THAT(with_moba("[]"), Contains("'moba': expected a JSON object"));
}

TEST_CASE("settings that override the folder's moba section are checked as well") {
  ModelConfig config = parse_model_config(tiny_config(), "c");
  config.moba = MobaConfig{.block_size = 64, .top_k = 8, .full_attention_layers = {2}};
  CHECK_THAT(load_error_of([&] { check_moba_config(config); }),
             Contains("moba.full_attention_layers: 2 is not in [0, 1]"));
}

TEST_CASE("JSON that attacks the parser is refused") {
  CHECK_THAT(error_of(""), Contains("config.json"));
  CHECK_THAT(error_of("{\"a\": "), Contains("config.json"));
  CHECK_THAT(error_of("[1]"), Contains("expected a JSON object"));
  CHECK_THAT(error_of(std::string(1'000'000, '[')), Contains("nested deeper than 16"));
  std::string nested = tiny_config();
  nested.pop_back();
  for (int i = 0; i < 10'000; ++i) nested += ", \"x\": {\"y\": 1";
  CHECK_THAT(error_of(nested), Contains("nested deeper than 16"));
  CHECK_THAT(error_of(tiny_config(", \"vocab_size\": 5")), Contains("\"vocab_size\" stands twice"));
  CHECK_THAT(error_of("{\"\xff\": 1}"), Contains("config.json"));
  CHECK(error_of(tiny_config(", \"quantization_config\": \"" + std::string(5000, 'x') + "\""))
            .size() < 300);
}

TEST_CASE("a folder without config.json, and no folder at all") {
  const TemporaryFolder folder;
  CHECK_THAT(load_error_of([&] { load_model_config(folder.path()); }),
             Contains("config.json: no such file"));
  CHECK_THAT(load_error_of([&] { load_model_config(folder.path() / "absent"); }),
             Contains("absent: no such model folder"));
  folder.write("config.json", std::string(2 << 20, ' '));
  CHECK_THAT(load_error_of([&] { load_model_config(folder.path()); }), Contains("at most 1048576"));
}

TEST_CASE("a schedule can be written as text") {
  const SelectionSchedule schedule =
      parse_selection_schedule("1000:2,5000:16:6", "--moba-schedule");
  CHECK(schedule.num_stages == 2);
  CHECK(schedule.stages[0] == SelectionStage{.from = 1000, .group = 2, .top_k = 0});
  CHECK(schedule.stages[1] == SelectionStage{.from = 5000, .group = 16, .top_k = 6});
  CHECK(schedule_text(schedule) == "1000:2,5000:16:6");
  CHECK(parse_selection_schedule("none", "") == SelectionSchedule{});
  CHECK(schedule_text({}) == "none");
  for (const std::string text : {"", "4", "4:", ":4", "4:2:", "4:2:1:1", "4:2,", ",4:2", "4:2 ",
                                 "-4:2", "4:2:0", "a:2", "4:99999999999"}) {
    CAPTURE(text);
    CHECK_THAT(load_error_of([&] { parse_selection_schedule(text, "--moba-schedule"); }),
               Contains("--moba-schedule: expected FROM:GROUP[:TOP_K]"));
  }
  CHECK_THAT(load_error_of([] {
               parse_selection_schedule("1:2,2:4,3:8,4:16,5:32,6:64,7:128,8:256,9:512", "");
             }),
             Contains("more than 8 stages"));
}

TEST_CASE("a rule is the last stage's that has begun") {
  const SelectionSchedule schedule = parse_selection_schedule("10:2,20:8:3", "");
  CHECK(schedule.rule_at(9, 5).stage == -1);
  CHECK(schedule.rule_at(9, 5).group == 1);
  CHECK(schedule.rule_at(10, 5).group == 2);
  CHECK(schedule.rule_at(19, 5).top_k == 5);
  CHECK(schedule.rule_at(20, 5).group == 8);
  CHECK(schedule.rule_at(20, 5).top_k == 3);
  CHECK(schedule.rule_at(20, 2).top_k == 2);
}

}  // namespace
}  // namespace quire::test
