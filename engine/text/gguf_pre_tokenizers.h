#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// What a value of a GGUF's tokenizer.ggml.pre stands for.
struct GgufPreTokenization {
  std::vector<std::string_view> names;  // several, where models cut text alike
  std::vector<nlohmann::json> steps;    // of a tokenizer.json's pre_tokenizer, before the bytes
  bool has_gpt2_words = false;          // the bytes are cut by GPT-2's pattern
  bool is_composed = false;             // text is normalised to NFC
  bool ignores_merges = false;          // a piece that is a token stays whole
  bool has_bos = false;                 // unless tokenizer.ggml.add_bos_token says otherwise
};

/// All that are known. The names are those that files of the supported architectures carry.
const std::vector<GgufPreTokenization>& gguf_pre_tokenizations();

}  // namespace quire
