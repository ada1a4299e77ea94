#pragma once

#include <map>
#include <string_view>

#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

using Filter = Value (*)(Runtime&, const Value& object, const Arguments&);
using FilterTable = std::map<std::string_view, Filter>;

/// The filters that work on lists and dicts.
const FilterTable& list_filters();
/// Those that need to know which of two items comes first, or whether they are equal.
const FilterTable& order_filters();
/// Those that lay out or count text.
const FilterTable& text_filters();

// ---- filters.cc: what filters read from their arguments ----
inline bool is_set(const Value* value) { return value != nullptr && value->is_true(); }
inline bool is_given(const Value* value) { return value != nullptr && !value->is_none(); }
/// The argument, or `fallback` where none is given. Throws Error for what is no whole number.
int64_t whole(const Value* value, int64_t fallback);
/// item.a.b, also with numbers as parts: what attribute="a.b" names. Null or none as path is the
/// item itself; what is undefined on the way is `fallback`, unless that is null or none.
Value attribute_path(Runtime& runtime, const Value& item, const Value* path,
                     const Value* fallback = nullptr);

}  // namespace quire::jinja
