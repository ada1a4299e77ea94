#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/bpe/bpe_tokenizer.h"

namespace quire {

/// Reads a tokenizer.json whose model is BPE. What the file asks for is done or refused by name;
/// only "truncation" and "padding", which belong to batches, are passed over. `source_name` is the
/// file's name for messages. Throws LoadError.
BpeTokenizerSpec read_tokenizer_json(std::string_view json, const std::string& source_name);

/// The added tokens of a tokenizer.json that was made from a SentencePiece model and needs its
/// normaliser ("Precompiled") or is Unigram; nothing for any other. Throws LoadError.
std::optional<std::vector<AddedToken>> read_sentencepiece_json(std::string_view json,
                                                               const std::string& source_name);

/// One added token, but for its id: an entry of "added_tokens", or of the "added_tokens_decoder" of
/// a tokenizer_config.json. `key` stands before the keys in messages. Throws LoadError.
AddedToken read_added_token(const nlohmann::json& json, const std::string& source_name,
                            const std::string& key);

}  // namespace quire
