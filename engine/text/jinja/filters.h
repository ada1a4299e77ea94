#pragma once

#include <map>
#include <string_view>

#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

using Filter = Value (*)(Runtime&, const Value& object, const Arguments&);
using FilterTable = std::map<std::string_view, Filter>;

/// The filters that work on lists and dicts.
const FilterTable& list_filters();

}  // namespace quire::jinja
