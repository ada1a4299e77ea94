#include "engine/text/jinja/filters.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace quire::jinja {
namespace {

Value trim(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"chars"});
  const MarkedText text = text_of(runtime, object);
  runtime.budget.spend_bytes(text.size());
  return strip(runtime, text, bound[0], true, true);
}

template <Case kWanted>
Value change_case(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  return with_case(runtime, text_of(runtime, object), kWanted);
}

Value replace_filter(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"old", "new", "count"});
  if (bound[0] == nullptr || bound[1] == nullptr) throw Error("replace needs two strings");
  return replace(runtime, text_of(runtime, object), text_of(runtime, *bound[0]),
                 text_of(runtime, *bound[1]), whole(bound[2], -1));
}

Value to_json(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound[0] != nullptr && bound[0]->is_true();
  style.indent = whole(bound[1], -1);
  if (is_given(bound[1])) style.item_separator = MarkedText(",");
  if (is_given(bound[2])) {
    if (!bound[2]->is_list() || bound[2]->items().size() != 2) {
      throw Error("separators are two strings");
    }
    style.item_separator = text_of(runtime, bound[2]->items()[0]);
    style.key_separator = text_of(runtime, bound[2]->items()[1]);
  }
  style.sort_keys = bound[3] != nullptr && bound[3]->is_true();
  if (style.indent > 64) throw Error("an indent of more than 64 columns");
  return json_of(runtime, object, style);
}

Value to_string(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  return object.is_text() ? object : Value(text_of(runtime, object));
}

/// A text as Python reads numbers from it: without the white space around, and without underscores
/// that stand between digits.
std::string numeral_of(Runtime& runtime, const MarkedText& text) {
  runtime.budget.spend_bytes(text.size());
  const std::string stripped = strip(runtime, text, nullptr, true, true).bytes();
  const auto is_digit_at = [&](size_t pos) {
    return pos < stripped.size() && std::isalnum(static_cast<unsigned char>(stripped[pos])) != 0;
  };
  std::string numeral;
  for (size_t pos = 0; pos < stripped.size(); ++pos) {
    const bool is_between =
        stripped[pos] == '_' && pos > 0 && is_digit_at(pos - 1) && is_digit_at(pos + 1);
    if (!is_between) numeral += stripped[pos];
  }
  return numeral;
}

/// Python's float(numeral); false where it is none.
bool parse_float(const std::string& numeral, double& number) {
  char* end = nullptr;
  number = std::strtod(numeral.c_str(), &end);
  const bool is_hex = numeral.find_first_of("xX") != std::string::npos;
  return !numeral.empty() && !is_hex && end == numeral.c_str() + numeral.size();
}

/// The base that a prefix names, which base 0 takes any of and others their own; the prefix goes.
int take_base(std::string& digits, int base) {
  if (digits.size() > 2 && digits[0] == '0') {
    const char letter = static_cast<char>(digits[1] | 0x20);
    const int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (named != 0 && (base == named || base == 0)) {
      digits.erase(0, 2);
      return named;
    }
  }
  return base == 0 ? 10 : base;
}

/// Python's int(numeral, base); false where it is none.
bool parse_int(const std::string& numeral, int base, int64_t& number) {
  const bool has_sign = !numeral.empty() && (numeral[0] == '-' || numeral[0] == '+');
  std::string digits = numeral.substr(has_sign ? 1 : 0);
  base = take_base(digits, base);
  if (digits.empty() || digits[0] == '-') return false;
  if (has_sign && numeral[0] == '-') digits.insert(0, "-");
  const char* end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, number, base);
  return result.ec == std::errc() && result.ptr == end;
}

Value to_int(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"default", "base"});
  const Value fallback = bound[0] != nullptr ? *bound[0] : Value::of_int(0);
  const auto base = static_cast<int>(whole(bound[1], 10));
  if (base != 0 && (base < 2 || base > 36)) throw Error("a base is between 2 and 36, or 0");
  if (object.is_undefined()) throw_undefined(object);
  double number = 0;
  if (object.is_text()) {
    const std::string numeral = numeral_of(runtime, object.as_text());
    int64_t parsed = 0;
    if (parse_int(numeral, base, parsed)) return Value::of_int(parsed);
    if (!parse_float(numeral, number)) return fallback;
  } else if (object.is_number()) {
    if (!object.is_float()) return Value::of_int(object.as_int());
    number = object.as_float();
  } else {
    return fallback;
  }
  if (std::isnan(number) || std::isinf(number)) return fallback;
  if (std::abs(number) >= 9.2e18) throw Error("a whole number is beyond 64 bits");
  return Value::of_int(static_cast<int64_t>(number));
}

Value to_float(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"default"});
  if (object.is_undefined()) throw_undefined(object);
  if (object.is_number()) return Value::of_float(object.as_float());
  double number = 0;
  if (object.is_text() && parse_float(numeral_of(runtime, object.as_text()), number)) {
    return Value::of_float(number);
  }
  return bound[0] != nullptr ? *bound[0] : Value::of_float(0);
}

Value or_default(Runtime&, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"default_value", "boolean"});
  const bool counts_false = bound[1] != nullptr && bound[1]->is_true();
  if (!object.is_undefined() && !(counts_false && !object.is_true())) return object;
  return bound[0] != nullptr ? *bound[0] : Value(MarkedText());
}

Value absolute(Runtime&, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  if (object.is_float()) return Value::of_float(std::abs(object.as_float()));
  if (object.is_number() && object.as_int() >= 0) return Value::of_int(object.as_int());
  return negate(object);
}

/// As Python rounds: to the even neighbour where both are equally near.
Value round_filter(Runtime&, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"precision", "method"});
  const int64_t precision = whole(bound[0], 0);
  const std::string method =
      bound[1] != nullptr && bound[1]->is_text() ? bound[1]->bytes() : "common";
  if (object.is_undefined()) throw_undefined(object);
  if (!object.is_number()) throw Error("round needs a number");
  if (precision < 0 || precision > 15) throw Error("round takes 0 to 15 digits");
  if (method == "common") {
    if (!object.is_float()) return Value::of_int(object.as_int());
    char digits[400];
    std::snprintf(digits, sizeof(digits), "%.*f", static_cast<int>(precision), object.as_float());
    return Value::of_float(std::strtod(digits, nullptr));
  }
  if (method != "ceil" && method != "floor") throw Error("round knows common, ceil and floor");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = object.as_float() * scale;
  return Value::of_float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

/// The attribute of that name; a dict's members are none.
Value attribute_filter(Runtime&, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"name"});
  if (bound[0] == nullptr || !bound[0]->is_text()) throw Error("attr needs a name");
  const std::string& name = bound[0]->bytes();
  if (object.is_dict() && !has_method(object, name)) {
    return Value::undefined("'dict object' has no attribute '" + name + "'");
  }
  return attribute_of(object, name);
}

Value format_filter(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const MarkedText format = text_of(runtime, object);
  if (arguments.named.empty()) {
    return format_percent(runtime, format, Value::of_tuple(arguments.positional));
  }
  if (!arguments.positional.empty()) throw Error("format takes values with or without names");
  auto named = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.named) named->set(Value(name), value);
  return format_percent(runtime, format, DictPtr(std::move(named)));
}

const FilterTable kValueFilters = {{"trim", trim},
                                   {"upper", change_case<Case::kUpper>},
                                   {"lower", change_case<Case::kLower>},
                                   {"title", change_case<Case::kTitleOfWords>},
                                   {"capitalize", change_case<Case::kCapitalized>},
                                   {"replace", replace_filter},
                                   {"tojson", to_json},
                                   {"string", to_string},
                                   {"safe", to_string},
                                   {"int", to_int},
                                   {"float", to_float},
                                   {"default", or_default},
                                   {"d", or_default},
                                   {"abs", absolute},
                                   {"round", round_filter},
                                   {"attr", attribute_filter},
                                   {"format", format_filter}};

Filter find_filter(std::string_view name) {
  for (const FilterTable* table :
       {&kValueFilters, &text_filters(), &list_filters(), &order_filters()}) {
    const auto filter = table->find(name);
    if (filter != table->end()) return filter->second;
  }
  return nullptr;
}

}  // namespace

int64_t whole(const Value* value, int64_t fallback) {
  return is_given(value) ? value->whole_number() : fallback;
}

Value attribute_path(Runtime& runtime, const Value& item, const Value* path,
                     const Value* fallback) {
  if (!is_given(path)) return item;
  const auto or_fallback = [&](Value value) {
    return value.is_undefined() && is_given(fallback) ? *fallback : value;
  };
  if (!path->is_text()) return or_fallback(item_of(runtime, item, *path));
  Value value = item;
  const std::string& names = path->bytes();
  for (size_t pos = 0; pos <= names.size();) {
    runtime.budget.spend_steps(1);
    const size_t dot = std::min(names.find('.', pos), names.size());
    const std::string name = names.substr(pos, dot - pos);
    const bool is_index = !name.empty() && name.size() < 10 &&
                          name.find_first_not_of("0123456789") == std::string::npos;
    const Value key = is_index ? Value::of_int(std::stoi(name)) : Value::of_text(name);
    value = or_fallback(item_of(runtime, value, key));
    pos = dot + 1;
  }
  return value;
}

Value apply_filter(Runtime& runtime, const std::string& name, const Value& object,
                   const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) throw Error("no filter named '" + name + "'");
  return filter(runtime, object, arguments);
}

bool has_filter(std::string_view name) { return find_filter(name) != nullptr; }

}  // namespace quire::jinja
