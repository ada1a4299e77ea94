#include "engine/text/gguf_pre_tokenizers.h"

namespace quire {
namespace {

using Json = nlohmann::json;
using Steps = std::vector<Json>;

Json split(std::string_view pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json single_digits() { return {{"type", "Digits"}, {"individual_digits", true}}; }

/// The pattern of GPT-4's relatives, with as many digits in a piece.
Json split_like_gpt4(std::string_view digits) {
  return split(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + std::string(digits) +
               R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

/// A word ends where small letters are followed by a capital one.
Json split_like_tekken() {
  return split(R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
               R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
               R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

Json split_like_seed_coder() {
  return split(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
               R"( ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

/// Words end at punctuation, be it Latin, Chinese, Arabic or of Devanagari.
Json split_like_viking() {
  return split(" ?[^(\\s|.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C)]+");
}

/// Chinese, Japanese, Korean, and what lies between them.
Json split_asian_scripts() { return split("[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"); }

/// Letters with a case; the list is that of the models' own tokenizer.json.
constexpr std::string_view kCasedWords =
    "\\s?["
    "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF"
    "\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1"
    "\u03A3-\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD"
    "\u1C90-\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D"
    "\u1F20-\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4"
    "\u1FB6-\u1FBC\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC"
    "\u1FF2-\u1FF4\u1FF6-\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128"
    "\u212A-\u212D\u212F-\u2134\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B"
    "\u2C7E-\u2CE4\u2CEB-\u2CEE\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787"
    "\uA78B-\uA78E\uAB70-\uABBF\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A"
    "\U00010400-\U0001044F\U000104B0-\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2"
    "\U00010CC0-\U00010CF2\U000118A0-\U000118DF\U0001E900-\U0001E943"
    "]+";

Steps split_like_deepseek_llm() {
  return {split("[\r\n]"),
          split(kCasedWords),
          split("\\s?[!-/:-~\uFF01-\uFF0F\uFF1A-\uFF5E\u2018-\u201F\u3000-\u3002]+"),
          split(R"(\s+$)"),
          split_asian_scripts(),
          single_digits()};
}

Steps split_like_deepseek_coder() {
  return {split("[\r\n]"), split(R"(\s?\p{L}+)"), split(R"(\s?\p{P}+)"), split_asian_scripts(),
          single_digits()};
}

Steps split_by_default() {
  return {split(R"([\p{P}\$\+<=>\^~\|]+)"),
          split(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))"),
          split(R"(\p{N}+)"), split("[0-9][0-9][0-9]")};
}

}  // namespace

const std::vector<GgufPreTokenization>& gguf_pre_tokenizations() {
  static const std::vector<GgufPreTokenization> all = {
      {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"},
       .steps = {split_like_gpt4(R"(\p{N}{1,3})")},
       .ignores_merges = true,
       .has_bos = true},
      {.names = {"smaug-bpe", "dbrx"}, .steps = {split_like_gpt4(R"(\p{N}{1,3})")}},
      {.names = {"minicpm5"},
       .steps = {split(R"(\p{N}{1,3})"), split_like_gpt4(R"(\p{N}+)")},
       .ignores_merges = true},
      {.names = {"qwen2"}, .steps = {split_like_gpt4(R"(\p{N})")}, .is_composed = true},
      {.names = {"deepseek-r1-qwen", "megrez"}, .steps = {split_like_gpt4(R"(\p{N})")}},
      {.names = {"seed-coder"}, .steps = {split_like_seed_coder()}},
      {.names = {"tekken"},
       .steps = {split_like_tekken()},
       .ignores_merges = true,
       .has_bos = true},
      {.names = {"deepseek-llm"}, .steps = split_like_deepseek_llm()},
      {.names = {"deepseek-coder"}, .steps = split_like_deepseek_coder()},
      {.names = {"viking"}, .steps = {split_like_viking(), single_digits()}},
      {.names = {"gpt-2", "mellum", "trillion", "a.x-4.0", "granite-docling"},
       .steps = {},
       .has_gpt2_words = true},
      {.names = {"smollm", "refact", "starcoder", "minerva-7b"},
       .steps = {single_digits()},
       .has_gpt2_words = true},
      {.names = {"default"}, .steps = split_by_default()},
  };
  return all;
}

}  // namespace quire
