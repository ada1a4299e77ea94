#include "engine/text/gguf_bpe.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/gguf_pre_tokenizers.h"
#include "engine/text/sentencepiece_types.h"
#include "engine/text/utf8.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokens = 1 << 22;  // more than any tokenizer has
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";

class JsonWriter {
 public:
  explicit JsonWriter(const GgufMetadata& metadata) : metadata_(metadata) {}

  std::string write() {
    const GgufPreTokenization& pre = find_pre_tokenization();
    json_ = {{"normalizer", pre.is_composed ? Json{{"type", "NFC"}} : Json()},
             {"decoder", byte_level(true)}};
    std::vector<Json> steps = pre.steps;
    steps.push_back(byte_level(pre.has_gpt2_words));
    json_["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
    read_tokens();
    read_merges();
    model_["type"] = "BPE";
    model_["ignore_merges"] = pre.ignores_merges;
    json_["model"] = std::move(model_);
    add_bos(pre.has_bos);
    return json_.dump();
  }

 private:
  static Json byte_level(bool has_gpt2_words) {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", false},
            {"trim_offsets", true},
            {"use_regex", has_gpt2_words}};
  }

  const GgufPreTokenization& find_pre_tokenization() const {
    constexpr std::string_view kPre = "tokenizer.ggml.pre";
    const std::string_view wanted = metadata_.optional_text(kPre).value_or("default");
    std::string known;
    for (const GgufPreTokenization& pre : gguf_pre_tokenizations()) {
      for (const std::string_view name : pre.names) {
        if (name == wanted) return pre;
        known += (known.empty() ? "" : ", ") + std::string(name);
      }
    }
    metadata_.fail(kPre, "unknown pre-tokenizer '" + std::string(wanted.substr(0, 100)) +
                             "'; known: " + known);
  }

  void read_tokens() {
    tokens_ = metadata_.texts(kTokens);
    const std::vector<int64_t> types = metadata_.integers(kTypes);
    if (tokens_.empty() || tokens_.size() > static_cast<size_t>(kMaxTokens)) {
      metadata_.fail(kTokens, std::to_string(tokens_.size()) + " tokens");
    }
    if (types.size() != tokens_.size()) {
      metadata_.fail(kTypes, std::to_string(types.size()) + " entries for " +
                                 std::to_string(tokens_.size()) + " tokens");
    }
    json_["added_tokens"] = Json::array();
    model_["vocab"] = Json::object();
    for (size_t id = 0; id < tokens_.size(); ++id) read_token(id, types[id]);
  }

  void read_token(size_t id, int64_t type) {
    const auto is = [type](PieceType wanted) { return type == static_cast<int64_t>(wanted); };
    if (is(PieceType::kUnused)) return;
    const std::string name(tokens_[id]);
    const std::string which = "token " + std::to_string(id);
    if (name.empty() || !is_valid_utf8(name)) metadata_.fail(kTokens, which + " is no text");
    if (is(PieceType::kNormal) || is(PieceType::kByte)) {
      if (!model_["vocab"].emplace(name, id).second) {
        metadata_.fail(kTokens, which + " stands twice");
      }
    } else if (is(PieceType::kControl) || is(PieceType::kUnknown) || is(PieceType::kUserDefined)) {
      json_["added_tokens"].push_back({{"id", id},
                                       {"content", name},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", false},
                                       {"special", !is(PieceType::kUserDefined)}});
    } else {
      metadata_.fail(kTypes, which + " is of type " + std::to_string(type));
    }
  }

  void read_merges() {
    Json merges = Json::array();
    for (const std::string_view merge : metadata_.texts(kMerges)) {
      const size_t space = merge.find(' ', 1);  // no byte is spelled as a space
      if (space == std::string_view::npos || !is_valid_utf8(merge)) {
        metadata_.fail(kMerges, "entry " + std::to_string(merges.size()) + " is no pair");
      }
      merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
    }
    model_["merges"] = std::move(merges);
  }

  void add_bos(bool by_default) {
    const auto last = static_cast<int64_t>(tokens_.size()) - 1;
    const auto id = metadata_.optional_integer("tokenizer.ggml.bos_token_id", {0, last});
    const auto wanted = metadata_.optional_boolean("tokenizer.ggml.add_bos_token");
    if (!id || !wanted.value_or(by_default)) return;
    const std::string name(tokens_[static_cast<size_t>(*id)]);
    const Json token = {{"id", name}, {"ids", {*id}}, {"tokens", {name}}};
    json_["post_processor"] = {{"type", "TemplateProcessing"},
                               {"single",
                                {{{"SpecialToken", {{"id", name}, {"type_id", 0}}}},
                                 {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                               {"pair", Json::array()},
                               {"special_tokens", Json::object({{name, token}})}};
  }

  const GgufMetadata& metadata_;
  std::vector<std::string_view> tokens_;
  Json json_;
  Json model_ = Json::object();
};

}  // namespace

std::string tokenizer_json_of(const GgufMetadata& metadata) { return JsonWriter(metadata).write(); }

}  // namespace quire
