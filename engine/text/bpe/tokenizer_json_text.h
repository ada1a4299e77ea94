#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "engine/text/bpe/pre_tokenizer.h"
#include "engine/text/bpe/text_normalizer.h"

// What a tokenizer.json does to text before the model. All throw LoadError, beginning with
// `source_name`, for what is not supported.

namespace quire {

/// "normalizer": NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip and Sequences of them.
TextNormalizer read_text_normalizer(const nlohmann::json& json, const std::string& source_name);

struct PreTokenizerJson {
  PreTokenizer pre_tokenizer;
  bool is_byte_level = false;  // ByteLevel is its last step: the model's tokens spell bytes
};

/// "pre_tokenizer": Split, Digits, ByteLevel, Metaspace and Sequences of them.
PreTokenizerJson read_pre_tokenizer(const nlohmann::json& json, const std::string& source_name);

}  // namespace quire
