#include "engine/text/json_tokenizer_reader.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "engine/text/added_tokens.h"
#include "engine/text/byte_alphabet.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxTokenBytes = 1 << 16;

std::pair<std::string, std::string> read_merge(const Json& json, const std::string& where) {
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string()) {
    return {json[0].get<std::string>(), json[1].get<std::string>()};
  }
  if (json.is_string()) {
    const std::string& both = json.get_ref<const std::string&>();
    const size_t space = both.find(' ');
    if (space != std::string::npos && both.find(' ', space + 1) == std::string::npos) {
      return {both.substr(0, space), both.substr(space + 1)};
    }
  }
  throw LoadError(where + ": merge " + describe_json(json) + " is no pair");
}

std::unordered_map<std::string, TokenId> read_vocab(const Json& json, const std::string& where) {
  if (!json.is_object()) throw LoadError(where + ".vocab: expected a JSON object");
  std::unordered_map<std::string, TokenId> vocab;
  std::unordered_set<TokenId> ids;
  for (const auto& [name, value] : json.items()) {
    const bool is_id = value.is_number_unsigned() &&
                       value.get<uint64_t>() < static_cast<uint64_t>(kMaxTokenizerTokens);
    if (!is_id || name.size() > kMaxTokenBytes) {
      throw LoadError(where + ".vocab: " + describe_json(name) + ": " + describe_json(value) +
                      " is no token id");
    }
    const auto id = value.get<TokenId>();
    if (!ids.insert(id).second) {
      throw LoadError(where + ".vocab: id " + std::to_string(id) + " stands twice");
    }
    if (!name.empty()) vocab.emplace(name, id);
  }
  return vocab;
}

std::string spelled_bytes(const std::string& name, const std::string& where) {
  std::optional<std::string> bytes = bytes_of_spelling(name);
  if (!bytes) throw LoadError(where + ": merge of " + describe_json(name) + ", which is no bytes");
  return *std::move(bytes);
}

void replace_all(std::string& text, const TokenDecoder::Replacement& replacement) {
  for (size_t pos = 0; (pos = text.find(replacement.from, pos)) != std::string::npos;) {
    text.replace(pos, replacement.from.size(), replacement.to);
    pos += replacement.to.size();
  }
}

bool is_byte_name(const std::string& name) {
  constexpr std::string_view kHexDigits = "0123456789ABCDEFabcdef";
  return name.size() == 6 && name.starts_with("<0x") && name[5] == '>' &&
         kHexDigits.find(name[3]) != std::string_view::npos &&
         kHexDigits.find(name[4]) != std::string_view::npos;
}

/// Reads decoders in their order. What comes after Fuse sees the whole text.
class DecoderReader {
 public:
  explicit DecoderReader(const std::string& source_name) : where_(source_name + ": decoder") {}

  void read(const Json& json) {
    const JsonFields fields(json, where_);
    const std::string type = fields.optional_string("type").value_or("");
    if (type == "Sequence") {
      fields.refuse_other_keys({"type", "decoders"});
      const Json* parts = fields.find("decoders");
      if (parts == nullptr || !parts->is_array()) fields.fail("decoders", "expected a list");
      for (const Json& part : *parts) read(part);
    } else if (type == "Strip") {
      read_strip(fields);
    } else if (is_fused_ || decoder_.is_byte_level) {
      fields.fail("type", "'" + type + "' at this place is not supported");
    } else if (type == "ByteLevel") {
      decoder_.is_byte_level = true;
    } else if (type == "ByteFallback") {
      decoder_.has_byte_fallback = true;
    } else if (type == "Fuse") {
      is_fused_ = true;
    } else if (type == "Replace") {
      read_replace(fields);
    } else if (type == "Metaspace") {
      const std::string scheme = fields.optional_string("prepend_scheme").value_or("always");
      const bool has_prefix = fields.optional_boolean("add_prefix_space").value_or(true);
      decoder_.drops_first_space = scheme != "never" && has_prefix;
      add_replacement(fields, fields.optional_string("replacement").value_or(""), " ");
    } else {
      fields.fail("type", "'" + type + "' is not supported");
    }
  }

  const TokenDecoder& result() const { return decoder_; }

 private:
  void read_strip(const JsonFields& fields) {
    fields.refuse_other_keys({"type", "content", "start", "stop"});
    if (!is_fused_) fields.fail("type", "Strip without Fuse before it is not supported");
    const bool is_space = fields.optional_string("content").value_or("") == " ";
    const int start = fields.optional_integer("start", {0, INT32_MAX}).value_or(0);
    if (!is_space || start > 1 || fields.optional_integer("stop", {0, INT32_MAX}).value_or(0) > 0) {
      fields.fail("type", "Strip of anything but the first space is not supported");
    }
    decoder_.drops_first_space = start == 1;
  }

  void read_replace(const JsonFields& fields) {
    fields.refuse_other_keys({"type", "pattern", "content"});
    const Json* pattern = fields.find("pattern");
    const bool is_text = pattern != nullptr && pattern->is_object() && pattern->size() == 1 &&
                         pattern->contains("String") && pattern->at("String").is_string();
    if (!is_text) fields.fail("pattern", "expected {\"String\": …}");
    add_replacement(fields, pattern->at("String").get<std::string>(),
                    fields.optional_string("content").value_or(""));
  }

  void add_replacement(const JsonFields& fields, std::string from, std::string to) {
    if (from.empty()) fields.fail("type", "replaces nothing");
    // Bytes of a token are not text yet.
    if (decoder_.has_byte_fallback) fields.fail("type", "Replace behind ByteFallback");
    decoder_.replacements.push_back({std::move(from), std::move(to)});
  }

  std::string where_;
  TokenDecoder decoder_;
  bool is_fused_ = false;
};

/// "single" of a TemplateProcessing: [token] text.
std::optional<TokenId> read_template(const JsonFields& fields) {
  fields.refuse_other_keys({"type", "single", "pair", "special_tokens"});
  const Json* single = fields.find("single");
  if (single == nullptr || !single->is_array()) fields.fail("single", "expected a list");
  const auto is_text = [](const Json& part) {
    return part.is_object() && part.size() == 1 && part.contains("Sequence");
  };
  if (single->size() == 1 && is_text(single->at(0))) return std::nullopt;
  if (single->size() != 2 || !is_text(single->at(1)) || !single->at(0).is_object() ||
      !single->at(0).contains("SpecialToken")) {
    fields.fail("single", "only a special token and the text behind it are supported");
  }
  const Json& named = single->at(0).at("SpecialToken");
  const Json* tokens = fields.find("special_tokens");
  if (tokens == nullptr || !named.is_object()) fields.fail("special_tokens", "missing");
  const JsonFields name_fields(named, "post_processor", "single.");
  const std::string name = name_fields.optional_string("id").value_or("");
  const JsonFields all(*tokens, "post_processor", "special_tokens.");
  const Json* token = all.find(name);
  if (token == nullptr) fields.fail("special_tokens", "missing " + describe_json(name));
  const JsonFields token_fields(*token, "post_processor", "special_tokens.");
  const std::vector<int32_t> ids = token_fields.integers("ids", {0, kMaxTokenizerTokens - 1});
  if (ids.size() != 1) fields.fail("special_tokens", "expected one id for " + describe_json(name));
  return ids[0];
}

}  // namespace

BpeModelJson read_bpe_model(const Json& json, const std::string& source_name) {
  const std::string where = source_name + ": model";
  const JsonFields fields(json, where);
  const std::string type = fields.optional_string("type").value_or("BPE");
  if (type != "BPE") fields.fail("type", "'" + type + "' is not supported");
  fields.refuse_other_keys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                            "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
                            "vocab", "merges"});
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!fields.optional_string(key).value_or("").empty()) fields.fail(key, "is not supported");
  }
  if (fields.optional_number("dropout", {0, 1}).value_or(0) > 0) {
    fields.fail("dropout", "is not supported");
  }
  const Json* vocab = fields.find("vocab");
  const Json* merges = fields.find("merges");
  if (vocab == nullptr) fields.fail("vocab", "missing");
  if (merges == nullptr || !merges->is_array()) fields.fail("merges", "expected a list");
  BpeModelJson model;
  model.vocab = read_vocab(*vocab, where);
  for (const Json& merge : *merges) model.merges.push_back(read_merge(merge, where));
  model.unknown = fields.optional_string("unk_token").value_or("");
  model.ignores_merges = fields.optional_boolean("ignore_merges").value_or(false);
  model.has_byte_fallback = fields.optional_boolean("byte_fallback").value_or(false);
  model.fuses_unknown = fields.optional_boolean("fuse_unk").value_or(false);
  return model;
}

BpeModel::Spec BpeModelJson::to_spec(const std::unordered_set<std::string>& special,
                                     bool is_byte_level, const std::string& where) const {
  BpeModel::Spec spec;
  spec.is_byte_level = is_byte_level;
  spec.ignores_merges = ignores_merges;
  spec.has_byte_fallback = has_byte_fallback;
  spec.fuses_unknown = fuses_unknown;
  if (!unknown.empty()) {
    const auto found = vocab.find(unknown);
    if (found == vocab.end()) throw LoadError(where + ": unk_token is not in the vocabulary");
    spec.unknown = found->second;
  }
  for (const auto& [name, id] : vocab) {
    if (special.count(name) != 0) continue;
    const std::optional<std::string> bytes = is_byte_level ? bytes_of_spelling(name) : name;
    if (bytes) spec.vocab.emplace(*bytes, id);
  }
  spec.merges = merges;
  if (is_byte_level) {
    for (auto& [left, right] : spec.merges) {
      left = spelled_bytes(left, where);
      right = spelled_bytes(right, where);
    }
  }
  return spec;
}

std::string TokenDecoder::bytes_of(const std::string& name) const {
  if (has_byte_fallback && is_byte_name(name)) {
    return std::string(1, static_cast<char>(std::strtol(name.substr(3, 2).c_str(), nullptr, 16)));
  }
  std::string bytes = name;
  for (const Replacement& replacement : replacements) replace_all(bytes, replacement);
  // A token of other characters stands for itself.
  return is_byte_level ? bytes_of_spelling(bytes).value_or(bytes) : bytes;
}

TokenDecoder read_token_decoder(const Json& json, const std::string& source_name) {
  DecoderReader reader(source_name);
  reader.read(json);
  return reader.result();
}

std::optional<TokenId> read_bos(const Json& json, const std::string& source_name) {
  const JsonFields fields(json, source_name + ": post_processor");
  const std::string type = fields.optional_string("type").value_or("");
  if (type == "ByteLevel") return std::nullopt;  // moves the borders of tokens in the text
  if (type == "TemplateProcessing") return read_template(fields);
  if (type != "Sequence") fields.fail("type", "'" + type + "' is not supported");
  fields.refuse_other_keys({"type", "processors"});
  const Json* parts = fields.find("processors");
  if (parts == nullptr || !parts->is_array()) fields.fail("processors", "expected a list");
  std::optional<TokenId> bos;
  for (const Json& part : *parts) {
    const std::optional<TokenId> found = read_bos(part, source_name);
    if (found && bos) fields.fail("processors", "two tokens in front of the text");
    if (found) bos = found;
  }
  return bos;
}

}  // namespace quire
