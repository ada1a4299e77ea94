// Any bytes are either refused with a LoadError or give tensors whose data lies inside the file and
// metadata that can be read as any type.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "models/model_config.h"
#include "models/weights/gguf.h"

namespace {

using quire::GgufMetadata;

/// Reads a value in every way; what does not fit is refused.
void read_value(const GgufMetadata& metadata, std::string_view key) {
  const auto attempt = [](const auto& read) {
    try {
      read();
    } catch (const quire::LoadError&) {
    }
  };
  attempt([&] { metadata.integer(key, {INT64_MIN, INT64_MAX}); });
  attempt([&] { metadata.optional_number(key); });
  attempt([&] { metadata.optional_boolean(key); });
  attempt([&] { metadata.text(key); });
  attempt([&] {
    volatile size_t ends = 0;
    for (const std::string_view text : metadata.texts(key)) {
      if (!text.empty()) ends = ends + static_cast<size_t>(text.front() ^ text.back());
    }
  });
  attempt([&] { metadata.integers(key); });
  attempt([&] { metadata.numbers(key); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    const quire::GgufContents contents = quire::parse_gguf(file, "fuzz");
    for (const auto& [key, value] : contents.metadata.values()) read_value(contents.metadata, key);
    size_t data_bytes = 0;
    for (const auto& [name, tensor] : contents.tensors) {
      const std::byte* begin = tensor.data.data();
      if (begin < file.data() || begin + tensor.data.size() > file.data() + size) std::abort();
      data_bytes += tensor.data.size();
    }
    if (data_bytes > size) std::abort();  // they overlap
  } catch (const quire::LoadError&) {
  }
  return 0;
}
