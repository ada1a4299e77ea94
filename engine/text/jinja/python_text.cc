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
    return repr_of(runtime, value);
  }
  throw Error("a value of type '" + std::string(value.type_name()) + "' cannot be printed");
}

MarkedText repr_of(Runtime& runtime, const Value& value) {
  MarkedText text;
  append_repr(runtime, value, text);
  return text;
}

}  // namespace quire::jinja
