#pragma once

#include <map>
#include <string_view>

#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

using Method = Value (*)(Runtime&, const Value& self, const Arguments&);
using MethodTable = std::map<std::string_view, Method>;

const MethodTable& text_methods();

}  // namespace quire::jinja
