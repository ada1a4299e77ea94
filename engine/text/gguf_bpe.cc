#include "engine/text/gguf_bpe.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/sentencepiece_types.h"
#include "engine/text/utf8.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokens = 1 << 22;  // more than any tokenizer has
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";

/// What tokenizer.ggml.pre stands for.
struct PreTokenization {
  std::string_view name;
  std::vector<Json> steps;      // before the bytes
  bool has_gpt2_words = false;  // the bytes are cut by GPT-2's pattern
  bool is_composed = false;     // text is normalised to NFC
  bool ignores_merges = false;  // a piece that is a token stays whole
  bool has_bos = false;         // unless tokenizer.ggml.add_bos_token says otherwise
};

Json split(std::string_view pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

/// The pattern of GPT-4's relatives, with as many digits in a piece.
Json split_like_gpt4(std::string_view digits) {
  return split(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + std::string(digits) +
               R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

PreTokenization llama_bpe() {
  return {.name = "llama-bpe",
          .steps = {split_like_gpt4(R"(\p{N}{1,3})")},
          .ignores_merges = true,
          .has_bos = true};
}
/// What llama-bpe was called before.
PreTokenization llama3() {
  PreTokenization same = llama_bpe();
  same.name = "llama3";
  return same;
}
PreTokenization llama_v3() {
  PreTokenization same = llama_bpe();
  same.name = "llama-v3";
  return same;
}
PreTokenization qwen2() {
  return {.name = "qwen2", .steps = {split_like_gpt4(R"(\p{N})")}, .is_composed = true};
}
/// Qwen2's pieces; text stays as it is.
PreTokenization deepseek_r1_qwen() {
  return {.name = "deepseek-r1-qwen", .steps = {split_like_gpt4(R"(\p{N})")}};
}
PreTokenization gpt2() { return {.name = "gpt-2", .steps = {}, .has_gpt2_words = true}; }
PreTokenization smollm() {
  return {.name = "smollm",
          .steps = {{{"type", "Digits"}, {"individual_digits", true}}},
          .has_gpt2_words = true};
}
PreTokenization by_default() {
  return {.name = "default",
          .steps = {split(R"([\p{P}\$\+<=>\^~\|]+)"),
                    split(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+)"
                          R"(|\s+(?!\S))"),
                    split(R"(\p{N}+)"), split("[0-9][0-9][0-9]")}};
}

class JsonWriter {
 public:
  explicit JsonWriter(const GgufMetadata& metadata) : metadata_(metadata) {}

  std::string write() {
    const PreTokenization pre = find_pre_tokenization();
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

  PreTokenization find_pre_tokenization() const {
    constexpr std::string_view kPre = "tokenizer.ggml.pre";
    const std::string_view name = metadata_.optional_text(kPre).value_or("default");
    std::string known;
    for (PreTokenization (*make)() :
         {llama_bpe, llama3, llama_v3, qwen2, deepseek_r1_qwen, gpt2, smollm, by_default}) {
      PreTokenization pre = make();
      if (pre.name == name) return pre;
      known += (known.empty() ? "" : ", ") + std::string(pre.name);
    }
    metadata_.fail(
        kPre, "unknown pre-tokenizer '" + std::string(name.substr(0, 100)) + "'; known: " + known);
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
