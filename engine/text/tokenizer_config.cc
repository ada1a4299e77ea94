#include "engine/text/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "engine/text/bpe/tokenizer_json.h"
#include "models/config_defaults.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{32} << 20;
constexpr int kMaxJsonDepth = 24;
constexpr const char* kSpaceMarker = "\u2581";

/// An empty object where there is no such file.
std::string read_optional(const std::filesystem::path& file) {
  return std::filesystem::exists(file) ? read_text_file(file, kMaxConfigBytes) : "{}";
}

/// A token is named by its content or described as an added token.
std::string content_of(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  const bool has_content =
      token.is_object() && token.contains("content") && token.at("content").is_string();
  return has_content ? token.at("content").get<std::string>() : "";
}

void read_special(const JsonFields& fields, TokenizerConfig& config) {
  // pad_token and unk_token name ordinary words in some folders ("!"), which must stay text.
  for (const char* key : {"bos_token", "eos_token", "sep_token", "cls_token", "mask_token"}) {
    if (const Json* token = fields.find(key)) config.special.push_back(content_of(*token));
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json* tokens = fields.find(key);
    if (tokens == nullptr) continue;
    if (!tokens->is_array() && !tokens->is_object()) fields.fail(key, "expected a list");
    for (const Json& token : *tokens) config.special.push_back(content_of(token));
  }
}

void read_added(const JsonFields& fields, TokenizerConfig& config) {
  const Json* all = fields.find("added_tokens_decoder");
  if (all == nullptr) return;
  if (!all->is_object()) fields.fail("added_tokens_decoder", "expected a JSON object");
  for (const auto& [name, entry] : all->items()) {
    const std::string key = "added_tokens_decoder." + name + ".";
    AddedToken token = read_added_token(entry, config.source_name, key);
    const char* end = name.data() + name.size();
    const auto [parsed, error] = std::from_chars(name.data(), end, token.id);
    if (error != std::errc() || parsed != end || token.id < 0 || token.id >= kMaxTokenizerTokens) {
      fields.fail("added_tokens_decoder", describe_json(name) + " is no token id");
    }
    config.added.push_back(std::move(token));
  }
  std::sort(config.added.begin(), config.added.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
}

void read_model(const JsonFields& fields, TokenizerConfig& config) {
  config.model_type = fields.optional_string("model_type").value_or("");
  config.vocab_size = fields.optional_integer("vocab_size", {1, INT32_MAX});
  const Json* names = fields.find("architectures");
  const bool is_named = names != nullptr && names->is_array() && !names->empty();
  const auto* defaults =
      find_config_defaults(is_named ? content_of(names->front()) : config.model_type);
  if (!config.vocab_size && defaults != nullptr) config.vocab_size = defaults->vocab_size;
}

void read_end_ids(const JsonFields& fields, const std::string& source_name,
                  TokenizerConfig& config) {
  const std::vector<TokenId> ids = fields.integers("eos_token_id", {0, INT32_MAX});
  if (!ids.empty()) config.end_source_name = source_name;
  config.end_ids.insert(config.end_ids.end(), ids.begin(), ids.end());
}

/// The id that a token without one gets behind all others.
TokenId next_id(const BpeTokenizerSpec& spec) {
  auto next = static_cast<TokenId>(spec.vocab.size());
  for (const AddedToken& token : spec.added_tokens) next = std::max(next, token.id + 1);
  return next;
}

void add_token(const AddedToken& token, const std::string& source_name, BpeTokenizerSpec& spec) {
  const auto same_content = [&](const AddedToken& it) { return it.content == token.content; };
  const auto known = std::find_if(spec.added_tokens.begin(), spec.added_tokens.end(), same_content);
  const auto word = spec.vocab.find(token.content);
  const TokenId id = known != spec.added_tokens.end() ? known->id
                     : word != spec.vocab.end()       ? word->second
                                                      : next_id(spec);
  if (id != token.id) {
    throw LoadError(source_name + ": added_tokens_decoder: " + describe_json(token.content) +
                    " has id " + std::to_string(token.id) + ", in tokenizer.json it is " +
                    std::to_string(id));
  }
  if (known != spec.added_tokens.end()) {
    *known = token;
  } else {
    spec.added_tokens.push_back(token);
  }
}

void make_special(const std::string& content, BpeTokenizerSpec& spec) {
  for (AddedToken& token : spec.added_tokens) {
    if (token.content == content) token.is_special = true;
    if (token.content == content) return;
  }
  const auto word = spec.vocab.find(content);
  if (word == spec.vocab.end()) return;  // transformers gives it an id that the model does not have
  spec.added_tokens.push_back({.id = word->second, .content = content, .is_special = true});
}

void use_llama_rules(const TokenizerConfig& config, BpeTokenizerSpec& spec) {
  spec.normalizer = {};
  PreTokenizer::Step step;
  step.replacement = kSpaceMarker;
  step.prefix_text = kSpaceMarker;
  if (config.adds_prefix_space) {
    step.prefix = config.is_legacy.value_or(false) ? PreTokenizer::Prefix::kAlways
                                                   : PreTokenizer::Prefix::kFirst;
  }
  spec.pre_tokenizer = PreTokenizer({std::move(step)});
  spec.ignores_merges = false;
  spec.has_byte_fallback = true;
  spec.fuses_unknown = true;
  spec.unknown.clear();
  spec.decoder = {.has_byte_fallback = true,
                  .replacements = {{kSpaceMarker, " "}},
                  .drops_first_space = config.adds_prefix_space};
}

}  // namespace

TokenizerConfig parse_tokenizer_config(std::string_view text, const std::string& source_name) {
  const Json json = parse_json(text, source_name, kMaxJsonDepth);
  const JsonFields fields(json, source_name);
  TokenizerConfig config{.source_name = source_name};
  config.tokenizer_class = fields.optional_string("tokenizer_class").value_or("");
  if (config.tokenizer_class.ends_with("Fast")) {
    config.tokenizer_class.resize(config.tokenizer_class.size() - 4);
  }
  config.adds_bos = fields.optional_boolean("add_bos_token");
  config.adds_eos = fields.optional_boolean("add_eos_token");
  config.is_legacy = fields.optional_boolean("legacy");
  config.adds_prefix_space = fields.optional_boolean("add_prefix_space").value_or(true);
  if (fields.optional_boolean("fix_mistral_regex").value_or(false)) {
    fields.fail("fix_mistral_regex", "is not supported");
  }
  const Json* code = fields.find("auto_map");
  if (code != nullptr && code->is_object() && code->contains("AutoTokenizer")) {
    fields.fail("auto_map", "a tokenizer with code of its own is not supported");
  }
  read_special(fields, config);
  read_added(fields, config);
  return config;
}

TokenizerConfig read_tokenizer_config(const std::filesystem::path& model_dir) {
  const std::filesystem::path file = model_dir / "tokenizer_config.json";
  TokenizerConfig config = parse_tokenizer_config(read_optional(file), file.string());
  for (const char* name : {"config.json", "generation_config.json"}) {
    const std::filesystem::path source = model_dir / name;
    const Json json = parse_json(read_optional(source), source.string(), kMaxJsonDepth);
    read_end_ids(JsonFields(json, source.string()), source.string(), config);
    if (source.filename() == "config.json") read_model(JsonFields(json, source.string()), config);
  }
  return config;
}

void apply_tokenizer_config(const TokenizerConfig& config, BpeTokenizerSpec& spec) {
  for (const AddedToken& token : config.added) add_token(token, config.source_name, spec);
  for (const std::string& content : config.special) make_special(content, spec);
  if (config.model_type == "llama" && config.tokenizer_class == "LlamaTokenizer" &&
      !spec.is_byte_level) {
    use_llama_rules(config, spec);
  }
}

}  // namespace quire
