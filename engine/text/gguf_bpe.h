#pragma once

#include <string>

#include "models/weights/gguf_metadata.h"

namespace quire {

/// The byte-level BPE that a GGUF with tokenizer.ggml.model "gpt2" describes, as a tokenizer.json:
/// tokens, types and merges as listed, normaliser and pre-tokenizer by the name in
/// tokenizer.ggml.pre (gguf_pre_tokenizers.h), as the files of such models have them. Control
/// tokens are special, those that the user defined are found in text, unused ones fill up a table
/// of weights and stand for nothing. Throws LoadError naming file and key.
std::string tokenizer_json_of(const GgufMetadata& metadata);

}  // namespace quire
