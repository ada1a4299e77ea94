#pragma once

#include <cstdint>
#include <string_view>

#include "engine/text/jinja/value.h"

namespace quire::jinja {

/// Who wrote a text: the model's folder, whose text may become control tokens, or the request,
/// whose text never may.
enum class Origin : uint8_t { kModel, kRequest };

/// JSON text as a template sees it. Objects keep their order; of two members with one name the last
/// one counts. Strings, names of members too, are marked as `origin` has it. Time and memory are
/// linear in the text. Throws Error for malformed JSON, for nesting beyond kMaxValueDepth and for a
/// whole number beyond 64 bits.
Value value_of_json(std::string_view text, Origin origin);

}  // namespace quire::jinja
