#include "engine/text/bpe/tokenizer_json_output.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "engine/text/bpe/added_tokens.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

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
