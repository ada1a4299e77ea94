// Any bytes are either refused with LoadError or give a tokenizer whose ids are inside its
// vocabulary and can all be decoded. A byte 0 ends the file; what follows it is text to encode.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "engine/text/json_tokenizer.h"
#include "models/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  const std::string_view text = end < size ? input.substr(end + 1) : "It's  a test\n\u00E9 123";
  try {
    const quire::JsonTokenizer tokenizer(input.substr(0, end), "tokenizer.json");
    const std::vector<quire::TokenId> ids = tokenizer.encode(text);
    for (const quire::TokenId id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    }
    tokenizer.decode(ids, false);
  } catch (const quire::LoadError&) {
  } catch (const std::runtime_error&) {
    // The file's pattern took too many steps for the text.
  }
  return 0;
}
