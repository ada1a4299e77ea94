// Any bytes are either refused with LoadError or give a tokenizer whose ids are inside its
// vocabulary and can all be decoded. A byte 0 ends the file; what follows it is text to encode; and
// behind another one stands a tokenizer_config.json.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "engine/text/bpe/tokenizer_json.h"
#include "engine/text/tokenizer_config.h"
#include "models/model_config.h"

namespace {

/// What stands before the next byte 0, which is taken away with it.
std::string_view take_part(std::string_view& input) {
  const std::string_view part = input.substr(0, input.find('\0'));
  input.remove_prefix(std::min(part.size() + 1, input.size()));
  return part;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view file = take_part(input);
  const std::string_view text = input.empty() ? "It's  a test\n\u00E9 123" : take_part(input);
  try {
    quire::BpeTokenizerSpec spec = quire::read_tokenizer_json(file, "tokenizer.json");
    if (!input.empty()) {
      auto config = quire::parse_tokenizer_config(input, "tokenizer_config.json");
      config.model_type = "llama";
      quire::apply_tokenizer_config(config, spec);
    }
    const quire::BpeTokenizer tokenizer(std::move(spec), "tokenizer.json");
    std::vector<quire::TokenId> ids = tokenizer.encode(text);
    const std::vector<quire::TokenId> behind = tokenizer.encode_behind_token(text);
    ids.insert(ids.end(), behind.begin(), behind.end());
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
