#include <charconv>
#include <cmath>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

void append_hex(char32_t code, int num_digits, std::string& out) {
  for (int shift = 4 * (num_digits - 1); shift >= 0; shift -= 4) {
    out += "0123456789abcdef"[code >> shift & 0xF];
  }
}

bool is_printable(char32_t code) {
  return code >= 0x20 && code != 0x7F && !(code >= 0x80 && code <= 0xA0) && code != 0xAD &&
         !(is_space(code) && code != 0x20) && !(code >= 0x200B && code <= 0x200F) &&
         !(code >= 0x202A && code <= 0x202E) && !(code >= 0x2060 && code <= 0x206F) &&
         code != 0xFEFF && !(code >= 0xE000 && code <= 0xF8FF);
}

/// One character as it stands in the repr of a string.
std::string escaped(std::string_view bytes, char32_t code, char quote) {
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (code == '\t') return "\\t";
  if (code == '\\' || code == static_cast<unsigned char>(quote)) return "\\" + std::string(bytes);
  if (is_printable(code)) return std::string(bytes);
  std::string text = code < 0x100 ? "\\x" : code < 0x10000 ? "\\u" : "\\U";
  append_hex(code, code < 0x100 ? 2 : code < 0x10000 ? 4 : 8, text);
  return text;
}

void append_repr_of_text(const MarkedText& text, MarkedText& out) {
  const std::string& bytes = text.bytes();
  const bool has_single = bytes.find('\'') != std::string::npos;
  const char quote = has_single && bytes.find('"') == std::string::npos ? '"' : '\'';
  out.append(std::string_view(&quote, 1));
  for (size_t pos = 0; pos < bytes.size();) {
    const Character character = character_at(bytes, pos);
    const auto original = std::string_view(bytes).substr(pos, character.num_bytes);
    const size_t end = pos + character.num_bytes;
    out.append_made_from(escaped(original, character.code, quote), text, {pos, end});
    pos = end;
  }
  out.append(std::string_view(&quote, 1));
}

void append_repr(Runtime& runtime, const Value& value, MarkedText& out);

void append_repr_of_list(Runtime& runtime, const List& list, MarkedText& out) {
  out.append(list.is_tuple ? "(" : "[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ");
    append_repr(runtime, list.items[i], out);
  }
  if (list.is_tuple && list.items.size() == 1) out.append(",");
  out.append(list.is_tuple ? ")" : "]");
}

void append_repr(Runtime& runtime, const Value& value, MarkedText& out) {
  runtime.budget.spend_bytes(8 + (value.is_text() ? value.bytes().size() : 0));
  if (value.is_text()) {
    append_repr_of_text(value.as_text(), out);
  } else if (value.is_list()) {
    append_repr_of_list(runtime, value.as_list(), out);
  } else if (value.is_dict()) {
    out.append("{");
    for (size_t i = 0; i < value.as_dict().entries().size(); ++i) {
      if (i > 0) out.append(", ");
      append_repr(runtime, value.as_dict().entries()[i].first, out);
      out.append(": ");
      append_repr(runtime, value.as_dict().entries()[i].second, out);
    }
    out.append("}");
  } else if (value.is_undefined()) {
    out.append("Undefined");
  } else {
    out.append(text_of(runtime, value));
  }
}

/// Walks "…{field}…"; calls back with literal text and with fields.
template <class OnText, class OnField>
void walk_braces(const MarkedText& format, OnText on_text, OnField on_field) {
  const std::string& bytes = format.bytes();
  size_t pos = 0;
  while (pos < bytes.size()) {
    const size_t brace = std::min(bytes.find_first_of("{}", pos), bytes.size());
    on_text(pos, brace);
    if (brace == bytes.size()) return;
    const bool is_doubled = brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace];
    const size_t close = bytes.find('}', brace);
    if (is_doubled) {
      on_text(brace, brace + 1);
      pos = brace + 2;
    } else if (bytes[brace] == '}' || close == std::string::npos) {
      throw Error("a single brace in a format string");
    } else {
      on_field(bytes.substr(brace + 1, close - brace - 1));
      pos = close + 1;
    }
  }
}

}  // namespace

/// The shortest digits that read back as the same number, laid out as Python does.
std::string float_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  const double magnitude = std::abs(number);
  const bool is_plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), number,
                    is_plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (is_plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

MarkedText text_of(Runtime& runtime, const Value& value) {
  if (value.is_text()) return value.as_text();
  if (value.is_undefined()) return MarkedText();
  if (value.is_none()) return MarkedText("None");
  if (value.is_bool()) return MarkedText(value.as_bool() ? "True" : "False");
  if (value.is_int()) return MarkedText(std::to_string(value.as_int()));
  if (value.is_float()) return MarkedText(float_text(value.as_float()));
  if (value.is_list() || value.is_dict()) {
    MarkedText text;
    append_repr(runtime, value, text);
    return text;
  }
  throw Error("a value of type '" + std::string(value.type_name()) + "' cannot be printed");
}

MarkedText format_braces(Runtime& runtime, const MarkedText& format, const Arguments& arguments) {
  MarkedText out;
  size_t next = 0;
  const auto on_text = [&](size_t begin, size_t end) { out.append(format.slice(begin, end)); };
  const auto on_field = [&](const std::string& field) {
    const Value* value = nullptr;
    size_t index = next;
    const auto parsed = std::from_chars(field.data(), field.data() + field.size(), index);
    const bool is_index = parsed.ec == std::errc() && parsed.ptr == field.data() + field.size();
    if (field.empty()) ++next;
    if (field.empty() || is_index) {
      if (index < arguments.positional.size()) value = &arguments.positional[index];
    } else {
      runtime.budget.spend_steps(arguments.named.size());
      for (const auto& [name, named] : arguments.named) {
        if (name.bytes() == field) value = &named;
      }
    }
    if (value == nullptr) throw Error("format has no value for the field '{" + field + "}'");
    const MarkedText text = text_of(runtime, *value);
    runtime.budget.spend_bytes(text.size());
    out.append(text);
  };
  runtime.budget.spend_bytes(format.size());
  walk_braces(format, on_text, on_field);
  return out;
}

MarkedText format_percent(Runtime& runtime, const MarkedText& format, const Value& arguments) {
  const bool is_tuple = arguments.is_list() && arguments.as_list().is_tuple;
  const std::vector<Value> values = is_tuple ? arguments.items() : std::vector<Value>{arguments};
  const std::string& bytes = format.bytes();
  MarkedText out;
  size_t next = 0;
  runtime.budget.spend_bytes(bytes.size());
  for (size_t pos = 0; pos < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', pos), bytes.size());
    out.append(format.slice(pos, percent));
    if (percent == bytes.size()) break;
    const char kind = percent + 1 < bytes.size() ? bytes[percent + 1] : ' ';
    pos = percent + 2;
    if (kind == '%') {
      out.append("%");
      continue;
    }
    if (next == values.size()) throw Error("a format string has more fields than values");
    const Value& value = values[next++];
    if (kind == 's') {
      const MarkedText text = text_of(runtime, value);
      runtime.budget.spend_bytes(text.size());
      out.append(text);
    } else if (kind == 'd' && value.is_number()) {
      const double whole = std::trunc(value.as_float());
      if (!(std::abs(whole) < 9.2e18)) throw Error("a whole number is beyond 64 bits");
      out.append(std::to_string(value.is_float() ? static_cast<int64_t>(whole) : value.as_int()));
    } else {
      throw Error("a format string may use %s, %d and %% only");
    }
  }
  if (next < values.size() && is_tuple) throw Error("a format string has fewer fields than values");
  return out;
}

}  // namespace quire::jinja
