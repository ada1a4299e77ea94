#include "engine/text/bpe/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "engine/text/bpe/tokenizer_json_output.h"
#include "engine/text/bpe/tokenizer_json_text.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr int kMaxJsonDepth = 24;
constexpr size_t kMaxTokenBytes = 1 << 16;
constexpr size_t kMaxAddedTokenBytes = 4096;

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

void read_model(const Json& json, const std::string& source_name, BpeTokenizerSpec& spec) {
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
  spec.vocab = read_vocab(*vocab, where);
  for (const Json& merge : *merges) spec.merges.push_back(read_merge(merge, where));
  spec.unknown = fields.optional_string("unk_token").value_or("");
  spec.ignores_merges = fields.optional_boolean("ignore_merges").value_or(false);
  spec.has_byte_fallback = fields.optional_boolean("byte_fallback").value_or(false);
  spec.fuses_unknown = fields.optional_boolean("fuse_unk").value_or(false);
}

std::vector<AddedToken> read_added_tokens(const JsonFields& fields,
                                          const std::string& source_name) {
  std::vector<AddedToken> tokens;
  const Json* added = fields.find("added_tokens");
  if (added == nullptr) return tokens;
  if (!added->is_array()) fields.fail("added_tokens", "expected a list");
  for (const Json& entry : *added) {
    tokens.push_back(read_added_token(entry, source_name, "added_tokens."));
    const JsonFields entry_fields(entry, source_name, "added_tokens.");
    tokens.back().id = entry_fields.integer("id", {0, kMaxTokenizerTokens - 1});
  }
  return tokens;
}

/// Whether any part of the normalizer is SentencePiece's own table.
bool is_precompiled(const Json& normalizer) {
  if (!normalizer.is_object()) return false;
  const auto type = normalizer.find("type");
  if (type != normalizer.end() && *type == "Precompiled") return true;
  const auto parts = normalizer.find("normalizers");
  return parts != normalizer.end() && parts->is_array() &&
         std::any_of(parts->begin(), parts->end(), is_precompiled);
}

}  // namespace

AddedToken read_added_token(const Json& json, const std::string& source_name,
                            const std::string& key) {
  const JsonFields fields(json, source_name, key);
  fields.refuse_other_keys(
      {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.content = fields.optional_string("content").value_or("");
  if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
    fields.fail("content", std::to_string(token.content.size()) + " bytes");
  }
  token.is_special = fields.optional_boolean("special").value_or(false);
  token.is_normalized = fields.optional_boolean("normalized").value_or(!token.is_special);
  token.is_single_word = fields.optional_boolean("single_word").value_or(false);
  token.takes_space_left = fields.optional_boolean("lstrip").value_or(false);
  token.takes_space_right = fields.optional_boolean("rstrip").value_or(false);
  return token;
}

std::optional<std::vector<AddedToken>> read_sentencepiece_json(std::string_view text,
                                                               const std::string& source_name) {
  const Json json = parse_json(text, source_name, kMaxJsonDepth);
  const JsonFields fields(json, source_name);
  const Json* model = fields.find("model");
  const Json* normalizer = fields.find("normalizer");
  const bool is_unigram = model != nullptr && model->is_object() && model->contains("type") &&
                          model->at("type") == "Unigram";
  if (!is_unigram && (normalizer == nullptr || !is_precompiled(*normalizer))) return std::nullopt;
  return read_added_tokens(fields, source_name);
}

BpeTokenizerSpec read_tokenizer_json(std::string_view text, const std::string& source_name) {
  const Json json = parse_json(text, source_name, kMaxJsonDepth);
  const JsonFields fields(json, source_name);
  fields.refuse_other_keys({"version", "truncation", "padding", "added_tokens", "normalizer",
                            "pre_tokenizer", "post_processor", "decoder", "model"});
  BpeTokenizerSpec spec;
  const Json* model = fields.find("model");
  const Json* decoder = fields.find("decoder");
  if (model == nullptr) fields.fail("model", "missing");
  if (decoder == nullptr) fields.fail("decoder", "missing");
  read_model(*model, source_name, spec);
  spec.decoder = read_token_decoder(*decoder, source_name);
  if (const Json* normalizer = fields.find("normalizer")) {
    spec.normalizer = read_text_normalizer(*normalizer, source_name);
  }
  if (const Json* pre_tokenizer = fields.find("pre_tokenizer")) {
    PreTokenizerJson read = read_pre_tokenizer(*pre_tokenizer, source_name);
    spec.pre_tokenizer = std::move(read.pre_tokenizer);
    spec.is_byte_level = read.is_byte_level;
  }
  if (const Json* processor = fields.find("post_processor")) {
    spec.bos = read_bos(*processor, source_name);
  }
  spec.added_tokens = read_added_tokens(fields, source_name);
  return spec;
}

}  // namespace quire
