#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/weights/gguf.h"
#include "tests/models/gguf_builder.h"
#include "tests/models/model_folder.h"

namespace quire::test {

/// What a GGUF calls a tensor of a Hugging Face folder, and its rows as GGUF orders them: llama's
/// query and key rows in pairs.
NamedTensor as_gguf_tensor(const NamedTensor& tensor, int32_t head_dim);

/// bf16 numbers as the bytes of a type: F32, F16 or BF16.
std::string bytes_as(GgufType type, const std::vector<BFloat16>& values);

/// The metadata of the tiny model (model_folder.h) under `architecture`, without a tokenizer.
GgufBuilder tiny_gguf_metadata(std::string_view architecture = "llama");

/// The tiny model as a GGUF: matrices of `type`, vectors in F32 as usual.
GgufBuilder tiny_gguf(GgufType type);

}  // namespace quire::test
