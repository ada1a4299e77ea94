#include "models/model_config.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdint>

#include "models/config_defaults.h"
#include "models/gguf_config.h"
#include "models/model_registry.h"
#include "models/model_variants.h"
#include "models/strict_json.h"
#include "models/weights/find_gguf.h"

namespace quire {
namespace {

/// Control characters of ASCII as "\x1b": a file must not write to a terminal, or begin a line.
std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F) {
      result += c;
    } else {
      constexpr std::string_view kDigits = "0123456789abcdef";
      result += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    }
  }
  return result;
}

using Json = nlohmann::json;
using IntRange = JsonFields::IntRange;

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr int kMaxConfigDepth = 16;

// Far above every published model, and small enough that no product of three overflows 64 bits.
constexpr IntRange kVocabSize{1, 1 << 22};
constexpr IntRange kHiddenSize{1, 1 << 17};
constexpr IntRange kIntermediateSize{1, 1 << 20};
constexpr IntRange kNumLayers{1, 1024};
constexpr IntRange kNumHeads{1, 1024};
constexpr IntRange kHeadDim{2, 1024};
constexpr IntRange kMaxPositions{1, 1 << 30};
constexpr IntRange kBlockSize{1, 1 << 16};
constexpr IntRange kTopK{1, 1 << 16};
constexpr IntRange kStageFrom{1, INT32_MAX};
constexpr IntRange kStageTopK{0, kTopK.max};  // 0: absent
constexpr IntRange kGroup{2, SelectionSchedule::kMaxGroup};

AttentionMode parse_attention_mode(const JsonFields& moba, std::string_view key) {
  const std::string mode = moba.optional_string(key).value_or("moba");
  if (mode == "moba") return AttentionMode::kMoba;
  if (mode == "full") return AttentionMode::kFull;
  moba.fail(key, "expected \"moba\" or \"full\", got \"" + mode.substr(0, 100) + "\"");
}

BlockDigest parse_digest(const JsonFields& moba) {
  const std::string name = moba.optional_string("digest").value_or("mean");
  if (const auto digest = digest_named(name)) return *digest;
  moba.fail("digest", "expected \"mean\", \"bounds\" or \"cuboid-mean\", got \"" +
                          name.substr(0, 100) + "\"");
}

void add_stage(SelectionSchedule& schedule, const SelectionStage& stage) {
  if (schedule.num_stages == SelectionSchedule::kMaxStages) {
    throw LoadError("moba.schedule: more than " + std::to_string(SelectionSchedule::kMaxStages) +
                    " stages");
  }
  schedule.stages[static_cast<size_t>(schedule.num_stages++)] = stage;
}

SelectionSchedule parse_schedule(const JsonFields& moba, std::string_view source_name) {
  SelectionSchedule schedule;
  const Json* stages = moba.find("schedule");
  if (stages == nullptr) return schedule;
  if (!stages->is_array()) {
    moba.fail("schedule", "expected a list of stages, got " + describe_json(*stages));
  }
  for (const Json& stage : *stages) {
    const JsonFields fields(stage, source_name, "moba.schedule.");
    fields.refuse_other_keys({"from", "group", "top_k"});
    add_stage(schedule, {.from = fields.integer("from", kStageFrom),
                         .group = fields.integer("group", kGroup),
                         .top_k = fields.optional_integer("top_k", kTopK).value_or(0)});
  }
  return schedule;
}

/// Our own section, so an unknown key in it is a misspelt one.
MobaConfig parse_moba(const Json& section, std::string_view source_name, int32_t num_layers) {
  const JsonFields fields(section, source_name, "moba.");
  fields.refuse_other_keys({"block_size", "top_k", "decode_top_k", "full_attention_layers",
                            "schedule", "digest", "prefill", "decode"});
  MobaConfig moba;
  moba.block_size = fields.integer("block_size", kBlockSize);
  moba.top_k = fields.integer("top_k", kTopK);
  moba.decode_top_k = fields.optional_integer("decode_top_k", kTopK);
  moba.full_attention_layers = fields.integers("full_attention_layers", {0, num_layers - 1});
  moba.schedule = parse_schedule(fields, source_name);
  moba.digest = parse_digest(fields);
  moba.prefill = parse_attention_mode(fields, "prefill");
  moba.decode = parse_attention_mode(fields, "decode");
  return moba;
}

/// Only a key that stands must have a value.
int32_t integer_or(const JsonFields& fields, std::string_view key, int32_t otherwise,
                   IntRange range) {
  return fields.stands(key) ? fields.integer(key, range) : otherwise;
}

void parse_dimensions(const JsonFields& fields, const ConfigDefaults& defaults,
                      ModelConfig& config) {
  config.vocab_size = integer_or(fields, "vocab_size", defaults.vocab_size, kVocabSize);
  config.hidden_size = integer_or(fields, "hidden_size", defaults.hidden_size, kHiddenSize);
  config.intermediate_size =
      integer_or(fields, "intermediate_size", defaults.intermediate_size, kIntermediateSize);
  config.num_layers = integer_or(fields, "num_hidden_layers", defaults.num_layers, kNumLayers);
  config.num_heads = integer_or(fields, "num_attention_heads", defaults.num_heads, kNumHeads);
  config.max_position_embeddings = integer_or(fields, "max_position_embeddings",
                                              defaults.max_position_embeddings, kMaxPositions);
  // Null is as many as query heads, whatever an absent key is.
  const bool has_default = defaults.num_kv_heads > 0 && !fields.stands("num_key_value_heads");
  config.num_kv_heads = fields.optional_integer("num_key_value_heads", kNumHeads)
                            .value_or(has_default ? defaults.num_kv_heads : config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.fail("num_key_value_heads", std::to_string(config.num_kv_heads) +
                                           " does not divide num_attention_heads " +
                                           std::to_string(config.num_heads));
  }
  auto head_dim = fields.optional_integer("head_dim", kHeadDim);
  if (!head_dim && defaults.head_dim > 0) head_dim = defaults.head_dim;
  if (!head_dim && config.hidden_size % config.num_heads != 0) {
    fields.fail("head_dim", "absent, and num_attention_heads " + std::to_string(config.num_heads) +
                                " does not divide hidden_size " +
                                std::to_string(config.hidden_size));
  }
  config.head_dim = head_dim.value_or(config.hidden_size / config.num_heads);
  if (config.head_dim < kHeadDim.min || config.head_dim > kHeadDim.max ||
      config.head_dim % 2 != 0) {
    fields.fail("head_dim",
                std::to_string(config.head_dim) + " is not an even number in [2, 1024]");
  }
}

std::string parse_architecture(const JsonFields& fields, std::string_view source_name) {
  const Json* names = fields.find("architectures");
  if (names == nullptr) {
    const auto* defaults = find_config_defaults(fields.optional_string("model_type").value_or(""));
    if (defaults == nullptr) fields.fail("architectures", "missing");
    return std::string(defaults->architecture);
  }
  if (!names->is_array() || names->size() != 1 || !names->front().is_string()) {
    fields.fail("architectures", "expected a list of one name, got " + describe_json(*names));
  }
  auto name = names->front().get<std::string>();
  find_architecture(name, source_name);
  return name;
}

void add_ids(const std::vector<int32_t>& ids, std::vector<int32_t>& to) {
  for (const int32_t id : ids) {
    if (std::find(to.begin(), to.end(), id) == to.end()) to.push_back(id);
  }
}

/// What transformers stops at where neither the folder's config.json nor a generation_config.json
/// says anything. An id that the model does not have is never drawn.
void add_default_end(const JsonFields& fields, ModelConfig& config) {
  const int32_t id = find_config_defaults(config.architecture)->eos_token_id;
  if (!fields.stands("eos_token_id") && id >= 0 && id < config.vocab_size) {
    config.eos_token_ids = {id};
  }
}

ModelConfig parse_fields(const JsonFields& fields, std::string_view source_name) {
  ModelConfig config;
  // First, because the keys of another architecture say nothing about this one's.
  config.architecture = parse_architecture(fields, source_name);
  const ConfigDefaults& defaults = *find_config_defaults(config.architecture);
  parse_dimensions(fields, defaults, config);
  refuse_foreign_mathematics(fields, config);
  config.fp8 = parse_fp8_scheme(fields, source_name);
  config.rms_norm_eps =
      static_cast<float>(fields.stands("rms_norm_eps") ? fields.number("rms_norm_eps", {1e-12, 0.1})
                                                       : defaults.rms_norm_eps);
  config.rope = parse_rope(fields, source_name, config);
  parse_variant(fields, config);
  config.tie_word_embeddings =
      fields.optional_boolean("tie_word_embeddings").value_or(defaults.tie_word_embeddings);
  const IntRange token_id{0, config.vocab_size - 1};
  config.bos_token_id = fields.optional_integer("bos_token_id", token_id);
  add_ids(fields.integers("eos_token_id", token_id), config.eos_token_ids);
  if (const Json* section = fields.find("moba")) {
    config.moba = parse_moba(*section, source_name, config.num_layers);
  }
  check_moba_config(config);
  return config;
}

}  // namespace

bool MobaConfig::is_full_attention_layer(int32_t layer) const {
  return std::find(full_attention_layers.begin(), full_attention_layers.end(), layer) !=
         full_attention_layers.end();
}

bool ModelConfig::is_rotated_layer(int32_t layer) const {
  return !std::binary_search(unrotated_layers.begin(), unrotated_layers.end(), layer);
}

LoadError::LoadError(const std::string& message) : std::runtime_error(escaped(message)) {}

int32_t ModelConfig::window_of(int32_t layer) const {
  const bool has_window = std::binary_search(windowed_layers.begin(), windowed_layers.end(), layer);
  return has_window ? sliding_window : 0;
}

ModelConfig parse_model_config(std::string_view json_text, std::string_view source_name) {
  const Json root = parse_json(json_text, source_name, kMaxConfigDepth);
  return parse_fields(JsonFields(root, source_name), source_name);
}

ModelConfig load_model_config(const std::filesystem::path& model) {
  std::error_code error;
  if (const auto gguf = find_gguf(model)) return parse_gguf_config(GgufFile(*gguf).contents());
  if (!std::filesystem::is_directory(model, error)) {
    throw LoadError(model.string() + ": no such model folder");
  }
  const auto config_path = model / "config.json";
  const Json config_root = parse_json(read_text_file(config_path, kMaxConfigBytes),
                                      config_path.string(), kMaxConfigDepth);
  const JsonFields fields(config_root, config_path.string());
  ModelConfig config = parse_fields(fields, config_path.string());

  const auto generation_path = model / "generation_config.json";
  if (!std::filesystem::exists(generation_path, error)) {
    add_default_end(fields, config);
  } else {
    const std::string source = generation_path.string();
    const Json root =
        parse_json(read_text_file(generation_path, kMaxConfigBytes), source, kMaxConfigDepth);
    add_ids(JsonFields(root, source).integers("eos_token_id", {0, config.vocab_size - 1}),
            config.eos_token_ids);
  }
  return config;
}

SelectionSchedule parse_selection_schedule(std::string_view text, std::string_view source_name) {
  SelectionSchedule schedule;
  if (text == "none") return schedule;
  const auto refuse = [&]() {
    throw LoadError(std::string(source_name) + ": expected FROM:GROUP[:TOP_K],… or none, got \"" +
                    std::string(text.substr(0, 100)) + "\"");
  };
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::array<int32_t, 3> numbers{};
    size_t count = 0;
    for (const char* at = text.data() + begin; count < numbers.size(); ++at) {
      const auto [stop, error] = std::from_chars(at, text.data() + end, numbers[count]);
      if (error != std::errc() || numbers[count] < 1) refuse();
      ++count;
      at = stop;
      if (at == text.data() + end) break;
      if (*at != ':' || count == numbers.size()) refuse();
    }
    if (count < 2) refuse();
    add_stage(schedule, {.from = numbers[0], .group = numbers[1], .top_k = numbers[2]});
    begin = end + 1;
  }
  return schedule;
}

std::string schedule_text(const SelectionSchedule& schedule) {
  std::string text;
  for (int32_t s = 0; s < schedule.num_stages; ++s) {
    const SelectionStage& stage = schedule.stages[static_cast<size_t>(s)];
    text += (s == 0 ? "" : ",") + std::to_string(stage.from) + ':' + std::to_string(stage.group);
    if (stage.top_k > 0) text += ':' + std::to_string(stage.top_k);
  }
  return text.empty() ? "none" : text;
}

void check_moba_config(const ModelConfig& config) {
  if (!config.moba) return;
  const MobaConfig& moba = *config.moba;
  const auto check_range = [](std::string_view name, int32_t value, IntRange range) {
    if (value >= range.min && value <= range.max) return;
    throw LoadError("moba." + std::string(name) + ": " + std::to_string(value) + " is not in [" +
                    std::to_string(range.min) + ", " + std::to_string(range.max) + "]");
  };
  check_range("block_size", moba.block_size, kBlockSize);
  check_range("top_k", moba.top_k, kTopK);
  check_range("decode_top_k", moba.top_k_of_decode(), kTopK);
  if (moba.digest != BlockDigest::kMean && moba.schedule.num_stages > 0) {
    throw LoadError("moba.schedule: expected none beside moba.digest " +
                    std::string(digest_name(moba.digest)) + ", got " +
                    schedule_text(moba.schedule));
  }
  SelectionStage previous;
  for (int32_t s = 0; s < moba.schedule.num_stages; ++s) {
    const SelectionStage& stage = moba.schedule.stages[static_cast<size_t>(s)];
    check_range("schedule.from", stage.from, kStageFrom);
    check_range("schedule.group", stage.group, kGroup);
    check_range("schedule.top_k", stage.top_k, kStageTopK);
    if (!std::has_single_bit(static_cast<uint32_t>(stage.group))) {
      throw LoadError("moba.schedule.group: " + std::to_string(stage.group) +
                      " is not a power of two");
    }
    if (stage.from <= previous.from || stage.group <= previous.group) {
      throw LoadError("moba.schedule: from and group must grow from stage to stage: " +
                      std::to_string(stage.from) + ":" + std::to_string(stage.group) + " after " +
                      std::to_string(previous.from) + ":" + std::to_string(previous.group));
    }
    previous = stage;
  }
  for (size_t i = 0; i < moba.full_attention_layers.size(); ++i) {
    const int32_t layer = moba.full_attention_layers[i];
    check_range("full_attention_layers", layer, {0, config.num_layers - 1});
    if (i > 0 && layer <= moba.full_attention_layers[i - 1]) {
      throw LoadError("moba.full_attention_layers: not in ascending order at " +
                      std::to_string(layer));
    }
  }
}

}  // namespace quire
