#pragma once

#include <string_view>

#include "engine/text/jinja/ast.h"

namespace quire::jinja {

/// Reads a whole template. Throws Error.
Body parse_template(std::string_view source);

}  // namespace quire::jinja
