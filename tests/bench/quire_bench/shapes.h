#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "models/model_config.h"

namespace quire::bench {

/// The architecture behind `--shape`: "tiny", "llama-3.2-1b", "llama-3.1-8b", or the seven numbers
/// LAYERS,DIM,HEADS,KV_HEADS,HEAD_DIM,FFN,VOCAB. `moba` holds the block size and top-k that the
/// published targets use for it. Throws std::invalid_argument with the known names.
ModelConfig shape_config(std::string_view shape);

/// config.json of `config`, as load_model reads it.
std::string config_json(const ModelConfig& config);

/// Bytes of the weights file that write_random_model makes.
int64_t random_model_bytes(const ModelConfig& config);

/// Writes config.json and model.safetensors into `folder`: bf16 normals of standard deviation
/// 1 / sqrt(inputs), so that activations keep their size through the layers, and norms of one. The
/// numbers come from a seeded table of a million, read from varying places: a kernel's time does
/// not depend on them, and drawing each would take longer than the measurement. Throws
/// std::runtime_error where the file cannot be written.
void write_random_model(const ModelConfig& config, uint32_t seed,
                        const std::filesystem::path& folder);

}  // namespace quire::bench
