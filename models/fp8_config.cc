#include "models/fp8_config.h"

#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSection = "quantization_config.";
constexpr std::string_view kFormat = "float-quantized";
constexpr JsonFields::IntRange kBlockExtent{1, 1 << 20};

/// Throws unless the value is `only`. An absent key has the value `absent`.
void require(const JsonFields& fields, std::string_view key, const Json& only,
             const Json& absent = nullptr) {
  const Json* value = fields.find(key);
  const Json& actual = value == nullptr ? absent : *value;
  if (actual == only) return;
  fields.fail(key, "not supported: " + (value == nullptr ? "absent" : describe_json(*value)) +
                       " (must be " + (only.is_null() ? "absent" : only.dump()) + ")");
}

/// Throws if there is something in the object.
void require_empty(const JsonFields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (value != nullptr && !(value->is_object() && value->empty())) require(fields, key, nullptr);
}

/// The writers list modules by name, by class ("Linear") and by pattern ("re:.*lm_head"). All that
/// the names are needed for is to notice a file that contradicts them.
void add_plain_modules(const JsonFields& fields, std::string_view key, Fp8Scheme& scheme) {
  const Json* names = fields.find(key);
  if (names == nullptr) return;
  if (!names->is_array()) fields.fail(key, "expected a list, got " + describe_json(*names));
  for (const Json& name : *names) {
    if (!name.is_string()) fields.fail(key, "expected names, got " + describe_json(name));
    scheme.plain_modules.insert(name.get<std::string>());
  }
}

void parse_block(const JsonFields& fields, std::string_view key, Fp8Scheme& scheme) {
  const std::vector<int32_t> block = fields.integers(key, kBlockExtent);
  if (block.size() != 2) {
    fields.fail(key, "expected the rows and columns of a block, got " +
                         (block.empty() ? "nothing" : describe_json(*fields.find(key))));
  }
  scheme.scale_rows = block[0];
  scheme.scale_columns = block[1];
}

void parse_weights(const JsonFields& fields, Fp8Scheme& scheme) {
  fields.refuse_other_keys({"num_bits", "type", "symmetric", "group_size", "strategy",
                            "block_structure", "dynamic", "actorder", "observer", "observer_kwargs",
                            "scale_dtype", "zp_dtype"});
  require(fields, "num_bits", 8);
  require(fields, "type", "float");
  require(fields, "symmetric", true, true);
  require(fields, "dynamic", false, false);
  require(fields, "actorder", false, false);
  const std::string strategy = fields.optional_string("strategy").value_or("");
  if (strategy == "channel") {
    scheme.scale_rows = 1;
    require(fields, "group_size", -1, -1);
  } else {
    require(fields, "group_size", nullptr);
  }
  if (strategy == "block") {
    parse_block(fields, "block_structure", scheme);
  } else {
    require(fields, "block_structure", nullptr);
  }
  if (strategy != "tensor" && strategy != "channel" && strategy != "block") {
    fields.fail("strategy", "not supported: " + describe_json(strategy) +
                                R"( (must be "tensor", "channel" or "block"))");
  }
}

/// What "sparsity_config" says if it says nothing.
void require_dense(const JsonFields& fields, std::string_view source_name) {
  const Json* section = fields.find("sparsity_config");
  if (section == nullptr || (section->is_object() && section->empty())) return;
  require(JsonFields(*section, source_name, std::string(kSection) + "sparsity_config."), "format",
          "dense");
}

Fp8Scheme parse_compressed_tensors(const JsonFields& fields, std::string_view source_name) {
  fields.refuse_other_keys({"quant_method", "format", "quantization_status", "ignore",
                            "global_compression_ratio", "config_groups", "kv_cache_scheme",
                            "sparsity_config", "transform_config", "version"});
  require(fields, "format", kFormat);
  require(fields, "kv_cache_scheme", nullptr);
  require_empty(fields, "transform_config");
  require_dense(fields, source_name);
  const Json* groups = fields.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->size() != 1) {
    fields.fail("config_groups", "expected an object of one group, got " +
                                     (groups == nullptr ? "none" : describe_json(*groups)));
  }
  const std::string path = std::string(kSection) + "config_groups[0].";
  const JsonFields group(groups->begin().value(), source_name, path);
  group.refuse_other_keys(
      {"targets", "weights", "input_activations", "output_activations", "format"});
  require(group, "format", kFormat, kFormat);
  require(group, "output_activations", nullptr);
  const Json* weights = group.find("weights");
  if (weights == nullptr) group.fail("weights", "missing");
  Fp8Scheme scheme;
  scheme.scale_suffixes = {"_scale"};
  add_plain_modules(fields, "ignore", scheme);
  parse_weights(JsonFields(*weights, source_name, path + "weights."), scheme);
  return scheme;
}

/// Both names of the scales mean the factor of the stored number: "inv" is that of the factor which
/// it was divided by.
Fp8Scheme parse_fp8(const JsonFields& fields) {
  fields.refuse_other_keys({"quant_method", "activation_scheme", "fmt", "weight_block_size",
                            "modules_to_not_convert", "ignored_layers", "dequantize"});
  require(fields, "fmt", "e4m3", "e4m3");
  Fp8Scheme scheme;
  scheme.scale_suffixes = {"_scale_inv"};
  if (fields.has("weight_block_size")) {
    parse_block(fields, "weight_block_size", scheme);
  } else {
    scheme.scale_suffixes.emplace_back("_scale");
  }
  add_plain_modules(fields, "modules_to_not_convert", scheme);
  add_plain_modules(fields, "ignored_layers", scheme);
  return scheme;
}

}  // namespace

std::optional<Fp8Scheme> parse_fp8_scheme(const JsonFields& config, std::string_view source_name) {
  const Json* section = config.find("quantization_config");
  if (section == nullptr) return std::nullopt;
  const JsonFields fields(*section, source_name, kSection);
  const std::string method = fields.optional_string("quant_method").value_or("");
  if (method == "compressed-tensors") return parse_compressed_tensors(fields, source_name);
  if (method == "fp8") return parse_fp8(fields);
  fields.fail("quant_method", "not supported: " + describe_json(method) +
                                  R"( (must be "compressed-tensors" or "fp8"))");
}

}  // namespace quire
