#include "engine/text/jinja/formatting.h"

#include <charconv>
#include <cmath>

#include "engine/text/jinja/characters.h"

namespace quire::jinja {
namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

/// The whole number at `pos`, which moves behind it; `fallback` where there is none.
int64_t take_number(std::string_view text, size_t& pos, int64_t fallback) {
  int64_t number = fallback;
  const size_t begin = pos;
  while (pos < text.size() && is_ascii_digit(text[pos])) ++pos;
  const auto parsed = std::from_chars(text.data() + begin, text.data() + pos, number);
  if (pos > begin && parsed.ec != std::errc()) throw Error("a format with too large a number");
  return number;
}

MarkedText aligned(Runtime& runtime, const MarkedText& text, const Layout& layout, char usual) {
  const char align = layout.align != 0 ? layout.align : usual;
  const Side side = align == '<' ? Side::kRight : align == '^' ? Side::kBoth : Side::kLeft;
  if (side != Side::kBoth) return padded(runtime, text, side, layout.width, layout.fill);
  // Other than str.center, it puts one more on the right of an odd number.
  const int64_t missing = layout.width - length_of(runtime, Value(text));
  if (missing <= 0) return text;
  const MarkedText left =
      padded(runtime, text, Side::kLeft, layout.width - (missing + 1) / 2, layout.fill);
  return padded(runtime, left, Side::kRight, layout.width, layout.fill);
}

/// The value as the layout wants it. What is made of numbers and layout alone is the request's
/// where `source`, a part of the format string, is.
MarkedText laid_out(Runtime& runtime, const Value& value, const Layout& layout,
                    const MarkedText& source) {
  const auto made = [&](const std::string& bytes) {
    MarkedText text;
    text.append_made_from(bytes, source, {0, source.size()});
    return text;
  };
  if (!value.is_number()) {
    if (!value.is_text()) throw Error("only strings and numbers are laid out by a format");
    if ((layout.type != 0 && layout.type != 's') || layout.sign != 0 || layout.align == '=' ||
        layout.is_alternate || layout.grouping != 0) {
      throw Error("a format that strings do not have");
    }
    MarkedText text = value.as_text();
    runtime.budget.spend_bytes(text.size());
    if (layout.precision >= 0) {
      const auto size = byte_of_character(text.bytes(), static_cast<size_t>(layout.precision));
      text = text.slice(0, size);
    }
    return aligned(runtime, text, layout, '<');
  }
  const NumberText number = number_text(value, layout);
  if (layout.align != '=') {
    return aligned(runtime, made(number.sign + number.digits), layout, '>');
  }
  MarkedText text = made(number.sign);
  text.append(padded(runtime, made(number.digits), Side::kLeft,
                     layout.width - static_cast<int64_t>(number.sign.size()), layout.fill));
  return text;
}

/// [[fill]align][sign][#][0][width][grouping][.precision][type]
Layout layout_of_braces(const MarkedText& spec) {
  constexpr std::string_view kAligns = "<>^=";
  const auto text = std::string_view(spec.bytes());
  Layout layout;
  size_t pos = 0;
  const auto is_at = [&](std::string_view characters) {
    return pos < text.size() && characters.find(text[pos]) != characters.npos;
  };
  const size_t first = text.empty() ? 0 : character_at(text, 0).num_bytes;
  if (first < text.size() && kAligns.find(text[first]) != kAligns.npos) {
    layout.fill = spec.slice(0, first);
    pos = first;
  }
  if (is_at(kAligns)) layout.align = text[pos++];
  if (is_at("+- ")) layout.sign = text[pos++];
  if (layout.sign == '-') layout.sign = 0;
  if (is_at("#")) layout.is_alternate = ++pos > 0;
  if (is_at("0")) {
    if (layout.align == 0) {
      layout.align = '=';
      layout.fill = spec.slice(pos, pos + 1);
    }
    ++pos;
  }
  layout.width = take_number(text, pos, 0);
  if (is_at(",_")) layout.grouping = text[pos++];
  if (is_at(".")) {
    layout.precision = take_number(text, ++pos, -1);
    if (layout.precision < 0) throw Error("a format without its precision");
  }
  if (pos < text.size()) layout.type = text[pos++];
  if (pos < text.size()) throw Error("a format that cannot be read: '" + spec.bytes() + "'");
  return layout;
}

/// One call of str.format.
class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments)
      : runtime_(runtime), arguments_(arguments) {}

  /// `depth`: of formats within formats, of which there is one.
  MarkedText format(const MarkedText& text, int depth) {
    const std::string& bytes = text.bytes();
    MarkedText out;
    runtime_.budget.spend_bytes(bytes.size());
    for (size_t pos = 0; pos < bytes.size();) {
      const size_t brace = std::min(bytes.find_first_of("{}", pos), bytes.size());
      out.append(text.slice(pos, brace));
      if (brace == bytes.size()) break;
      if (brace + 1 < bytes.size() && bytes[brace + 1] == bytes[brace]) {
        out.append(text.slice(brace, brace + 1));
        pos = brace + 2;
        continue;
      }
      const size_t close = closing(bytes, brace);
      const MarkedText field = format_field(text.slice(brace + 1, close), depth);
      runtime_.budget.spend_bytes(field.size());
      out.append(field);
      pos = close + 1;
    }
    return out;
  }

 private:
  static size_t closing(const std::string& bytes, size_t brace) {
    int depth = 0;
    for (size_t pos = brace; pos < bytes.size(); ++pos) {
      if (bytes[pos] == '{') ++depth;
      if (bytes[pos] == '}' && --depth <= 0) {
        if (depth < 0) break;
        return pos;
      }
    }
    throw Error("a single brace in a format string");
  }

  /// name!conversion:spec
  MarkedText format_field(const MarkedText& field, int depth) {
    if (depth > 1) throw Error("a format string nests too deeply");
    const std::string& bytes = field.bytes();
    const size_t name_end = std::min(bytes.find_first_of("!:"), bytes.size());
    Value value = value_of(bytes.substr(0, name_end));
    size_t pos = name_end;
    if (pos < bytes.size() && bytes[pos] == '!') {
      const char conversion = pos + 1 < bytes.size() ? bytes[pos + 1] : ' ';
      if (conversion != 'r' && conversion != 's') throw Error("a format knows !r and !s");
      value = conversion == 'r' ? repr_of(runtime_, value) : text_of(runtime_, value);
      pos += 2;
      if (pos < bytes.size() && bytes[pos] != ':') throw Error("expected ':' in a format");
    }
    if (pos + 1 >= bytes.size()) return text_of(runtime_, value);
    const MarkedText spec = format(field.slice(pos + 1, bytes.size()), depth + 1);
    if (spec.empty()) return text_of(runtime_, value);
    return laid_out(runtime_, value, layout_of_braces(spec), spec);
  }

  /// name, name.attribute and name[item]
  Value value_of(const std::string& path) {
    size_t pos = std::min(path.find_first_of(".["), path.size());
    Value value = argument_of(path.substr(0, pos));
    while (pos < path.size()) {
      runtime_.budget.spend_steps(1);
      const bool is_item = path[pos] == '[';
      const size_t end = is_item ? path.find(']', pos) : path.find_first_of(".[", pos + 1);
      if (is_item && end == path.npos) throw Error("expected ']' in a format");
      const std::string name = path.substr(pos + 1, std::min(end, path.size()) - pos - 1);
      size_t digits = 0;
      const int64_t index = take_number(name, digits, -1);
      const bool is_index = is_item && !name.empty() && digits == name.size();
      value = !is_item ? attribute_of(value, name)
                       : item_of(runtime_, value,
                                 is_index ? Value::of_int(index) : Value::of_text(name));
      pos = std::min(end, path.size()) + (is_item ? 1 : 0);
    }
    return value;
  }

  Value argument_of(const std::string& name) {
    size_t digits = 0;
    int64_t index = take_number(name, digits, -1);
    if (digits < name.size()) {
      runtime_.budget.spend_steps(arguments_.named.size());
      for (const auto& [known, value] : arguments_.named) {
        if (known.bytes() == name) return value;
      }
      throw Error("format has no value for the field '" + name + "'");
    }
    (name.empty() ? has_counted_ : has_numbered_) = true;
    if (has_counted_ && has_numbered_) throw Error("a format counts its fields or numbers them");
    if (name.empty()) index = next_++;
    if (index >= static_cast<int64_t>(arguments_.positional.size())) {
      throw Error("format has no value for the field '" + name + "'");
    }
    return arguments_.positional[static_cast<size_t>(index)];
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  int64_t next_ = 0;
  bool has_counted_ = false;
  bool has_numbered_ = false;
};

/// One use of the operator % on a format string.
class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const MarkedText& format, const Value& arguments)
      : runtime_(runtime), format_(format), bytes_(format.bytes()), arguments_(arguments) {
    const bool is_tuple = arguments.is_list() && arguments.as_list().is_tuple;
    values_ = is_tuple ? arguments.items() : std::vector<Value>{arguments};
    needs_all_ = is_tuple || !(arguments.is_list() || arguments.is_dict());
  }

  MarkedText run() {
    MarkedText out;
    runtime_.budget.spend_bytes(bytes_.size());
    while (pos_ < bytes_.size()) {
      const size_t percent = std::min(bytes_.find('%', pos_), bytes_.size());
      out.append(format_.slice(pos_, percent));
      pos_ = percent + 1;
      if (percent >= bytes_.size()) break;
      const MarkedText field = format_field(percent);
      runtime_.budget.spend_bytes(field.size());
      out.append(field);
    }
    if (next_ < values_.size() && needs_all_) {
      throw Error("a format string has fewer fields than values");
    }
    return out;
  }

 private:
  bool is_at(std::string_view characters) const {
    return pos_ < bytes_.size() && characters.find(bytes_[pos_]) != characters.npos;
  }

  /// %(name)[flags][width][.precision]type
  MarkedText format_field(size_t percent) {
    const Value* named = is_at("(") ? &take_named() : nullptr;
    Layout layout = {.align = '>'};
    bool has_zeros = false;
    for (; is_at("-+ 0#"); ++pos_) {
      const char flag = bytes_[pos_];
      if (flag == '-') layout.align = '<';
      if (flag == '+' || (flag == ' ' && layout.sign == 0)) layout.sign = flag;
      if (flag == '0') has_zeros = true;
      if (flag == '#') layout.is_alternate = true;
    }
    layout.width = take_number(bytes_, pos_, 0);
    if (is_at(".")) layout.precision = take_number(bytes_, ++pos_, 0);
    if (pos_ == bytes_.size()) throw Error("a format string ends within a field");
    layout.type = bytes_[pos_++];
    if (layout.type == '%') return format_.slice(pos_ - 1, pos_);
    const Value& value = named != nullptr ? *named : next_value();
    const MarkedText source = format_.slice(percent, pos_);
    if (layout.type == 's' || layout.type == 'r') {
      const Value text = layout.type == 's' ? text_of(runtime_, value) : repr_of(runtime_, value);
      layout = {.align = layout.align, .width = layout.width, .precision = layout.precision};
      return laid_out(runtime_, text, layout, source);
    }
    if (has_zeros && layout.align == '>') {
      layout.align = '=';
      layout.fill = MarkedText();
      layout.fill.append_made_from("0", source, {0, source.size()});
    }
    return laid_out(runtime_, number_of(value, layout), layout, source);
  }

  /// %d takes floats too, and leaves off what is behind their point.
  static Value number_of(const Value& value, Layout& layout) {
    if (layout.type == 'i' || layout.type == 'u') layout.type = 'd';
    constexpr std::string_view kTypes = "dxXoeEfFgG";
    if (kTypes.find(layout.type) == kTypes.npos) {
      throw Error(std::string("a format string knows no fields of the type '") + layout.type + "'");
    }
    if (value.is_undefined()) throw_undefined(value);
    if (!value.is_number()) throw Error("a field of a format string needs a number");
    if (layout.type != 'd' || !value.is_float()) return value;
    const double whole = std::trunc(value.as_float());
    if (!(std::abs(whole) < 9.2e18)) throw Error("a whole number is beyond 64 bits");
    return Value::of_int(static_cast<int64_t>(whole));
  }

  const Value& take_named() {
    const size_t end = bytes_.find(')', pos_);
    if (end == std::string::npos) throw Error("expected ')' in a format string");
    if (!arguments_.is_dict()) throw Error("a format string with names needs a dict");
    const Value name = format_.slice(pos_ + 1, end);
    const Value* value = find_key(runtime_, arguments_.as_dict(), name);
    if (value == nullptr) throw Error("format has no value for '" + name.bytes() + "'");
    pos_ = end + 1;
    return *value;
  }

  const Value& next_value() {
    if (next_ == values_.size()) throw Error("a format string has more fields than values");
    return values_[next_++];
  }

  Runtime& runtime_;
  const MarkedText& format_;
  const std::string& bytes_;
  const Value& arguments_;
  std::vector<Value> values_;
  bool needs_all_ = false;
  size_t pos_ = 0;
  size_t next_ = 0;
};

}  // namespace

MarkedText format_braces(Runtime& runtime, const MarkedText& format, const Arguments& arguments) {
  return BraceFormatter(runtime, arguments).format(format, 0);
}

MarkedText format_percent(Runtime& runtime, const MarkedText& format, const Value& arguments) {
  return PercentFormatter(runtime, format, arguments).run();
}

}  // namespace quire::jinja
