#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "engine/core/ids.h"
#include "engine/text/bpe/token_decoder.h"

// What a tokenizer.json puts around ids, and how ids become text again. Both throw LoadError,
// beginning with `source_name`, for what is not supported.

namespace quire {

/// "decoder": ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip and Sequences of them.
TokenDecoder read_token_decoder(const nlohmann::json& json, const std::string& source_name);

/// The token that the "post_processor" puts in front of a text; one that puts anything else
/// anywhere is refused.
std::optional<TokenId> read_bos(const nlohmann::json& json, const std::string& source_name);

}  // namespace quire
