#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/core/status.h"

// A request's body is input from a stranger: bounded in nesting and in the number of values before
// any of it is built. A document of megabytes in it is one string, which is read at the speed of
// memory and held once.

namespace quire {

struct JsonLimits {
  int max_depth = 64;
  int64_t max_values = 1 << 24;  // a value costs tens of bytes, "[]," only three on the wire
};

/// One JSON object. kInvalidArgument for anything else, for text after it, for what is no UTF-8 and
/// for what passes the limits.
Result<nlohmann::json> parse_json_object(std::string_view text, const JsonLimits& limits);

}  // namespace quire
