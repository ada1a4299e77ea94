#pragma once

#include <filesystem>
#include <memory>

#include "engine/text/tokenizer.h"

namespace quire {

/// The tokenizer inside a GGUF file. tokenizer.ggml.model is "llama" (SentencePiece, by scores) or
/// "gpt2" (byte-level BPE). Throws LoadError naming file and key.
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file, int num_threads);

}  // namespace quire
