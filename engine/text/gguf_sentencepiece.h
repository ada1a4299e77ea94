#pragma once

#include <string>
#include <string_view>

#include "models/weights/gguf_metadata.h"

namespace quire {

/// The SentencePiece model that a GGUF with tokenizer.ggml.model "llama" describes by its tokens,
/// scores, types and flags, serialized as in a tokenizer.model: byte pair encoding by scores, with
/// byte fallback. Throws LoadError naming file and key for lists of different lengths, ids outside
/// of the vocabulary, and a normaliser's table that is not sound.
std::string sentencepiece_model_of(const GgufMetadata& metadata);

/// Whether SentencePiece can walk a normaliser's table (precompiled_charsmap) without leaving it:
/// the library believes the trie's offsets and the positions of the texts.
bool is_sound_charsmap(std::string_view charsmap);

}  // namespace quire
