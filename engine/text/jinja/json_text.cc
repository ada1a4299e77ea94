#include <algorithm>
#include <cmath>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {
namespace {

void append_unit(char32_t unit, std::string& out) {
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += "0123456789abcdef"[unit >> shift & 0xF];
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void write(const Value& value) {
    runtime_.budget.spend_bytes(8 + (value.is_text() ? value.bytes().size() : 0));
    if (value.is_text()) {
      write_text(value.as_text());
    } else if (value.is_list()) {
      write_list(value.items());
    } else if (value.is_dict()) {
      write_dict(value.as_dict());
    } else if (value.is_none() || value.is_number()) {
      out_.append(scalar(value));
    } else {
      throw Error("a value of type '" + std::string(value.type_name()) + "' has no JSON");
    }
  }

  MarkedText take() { return std::move(out_); }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.as_bool() ? "true" : "false";
    if (value.is_int()) return std::to_string(value.as_int());
    if (std::isnan(value.as_float())) return "NaN";
    if (std::isinf(value.as_float())) return value.as_float() > 0 ? "Infinity" : "-Infinity";
    return float_text(value.as_float());
  }

  std::string escaped(std::string_view bytes, char32_t code) const {
    constexpr std::string_view kPlain = "\"\\\b\f\n\r\t";
    constexpr std::string_view kNames = "\"\\bfnrt";
    std::string text;
    if (code < 0x80) {
      const size_t at = kPlain.find(static_cast<char>(code));
      if (at != kPlain.npos) return std::string("\\") + kNames[at];
      if (code < 0x20) {
        append_unit(code, text);
        return text;
      }
    }
    if (!style_.ensure_ascii) return std::string(bytes);
    if (code >= 0x10000) {
      append_unit(0xD800 + ((code - 0x10000) >> 10), text);
      append_unit(0xDC00 + ((code - 0x10000) & 0x3FF), text);
    } else {
      append_unit(code, text);
    }
    return text;
  }

  /// Runs of characters that stand for themselves are taken in one piece: tool results are long.
  void write_text(const MarkedText& text) {
    const std::string& bytes = text.bytes();
    out_.append("\"");
    size_t run = 0;
    for (size_t pos = 0; pos < bytes.size();) {
      const Character character = character_at(bytes, pos);
      const size_t end = pos + character.num_bytes;
      const bool is_plain = character.code >= 0x20 && character.code != '"' &&
                            character.code != '\\' &&
                            (character.code < 0x7F || !style_.ensure_ascii);
      if (!is_plain) {
        out_.append(text.slice(run, pos));
        const auto original = std::string_view(bytes).substr(pos, character.num_bytes);
        out_.append_made_from(escaped(original, character.code), text, {pos, end});
        run = end;
      }
      pos = end;
    }
    out_.append(text.slice(run, bytes.size()));
    out_.append("\"");
  }

  void break_line() {
    if (style_.indent < 0) return;
    const auto columns = static_cast<size_t>(style_.indent) * level_;
    runtime_.budget.spend_bytes(columns + 1);
    out_.append("\n" + std::string(columns, ' '));
  }

  void write_list(const std::vector<Value>& items) {
    out_.append("[");
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      break_line();
      write(items[i]);
    }
    --level_;
    if (!items.empty()) break_line();
    out_.append("]");
  }

  void write_dict(const Dict& dict) {
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* left, const auto* right) {
        return compare(runtime_, left->first, right->first) < 0;
      });
    }
    out_.append("{");
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      break_line();
      const Value& key = entries[i]->first;
      if (!key.is_text() && !key.is_none() && !key.is_number()) {
        throw Error("keys of JSON are strings, numbers, true, false or none");
      }
      write_text(key.is_text() ? key.as_text() : MarkedText(scalar(key)));
      out_.append(style_.key_separator);
      write(entries[i]->second);
    }
    --level_;
    if (!entries.empty()) break_line();
    out_.append("}");
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  MarkedText out_;
  size_t level_ = 0;
};

}  // namespace

MarkedText json_of(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.write(value);
  return writer.take();
}

}  // namespace quire::jinja
