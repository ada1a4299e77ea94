#include "engine/text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "engine/text/jinja/characters.h"

namespace quire::jinja {
namespace {

using Kind = Token::Kind;

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_sign(char c) { return c == '-' || c == '+'; }

std::string with_unix_newlines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_unix_newlines(source)) {}

  std::vector<Token> run() {
    while (pos_ < source_.size()) take_text_and_tag();
    push(Kind::kEnd, "", source_.size());
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(pos_); }
  bool starts_with(std::string_view text) const {
    return rest().compare(0, text.size(), text) == 0;
  }

  [[noreturn]] void fail(const std::string& message, size_t at) {
    if (at < counted_) {
      counted_ = 0;
      here_ = {1, 1};
    }
    throw Error(message, position_of(at));
  }

  /// Tokens are asked for in order, so each byte is counted once.
  Position position_of(size_t pos) {
    for (; counted_ < pos; ++counted_) {
      const auto byte = static_cast<unsigned char>(source_[counted_]);
      if (byte == '\n') {
        here_ = {here_.line + 1, 1};
      } else if ((byte & 0xC0) != 0x80) {
        ++here_.column;
      }
    }
    return here_;
  }

  void push(Kind kind, std::string text, size_t at) {
    tokens_.push_back({kind, std::move(text), position_of(at)});
  }

  size_t find_tag() const {
    for (size_t at = source_.find('{', pos_); at < source_.size() - 1; at = source_.find('{', at)) {
      const char next = source_[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
      ++at;
    }
    return source_.size();
  }

  /// Text up to `tag` as trimming leaves it: all white space goes before "-", indentation that is
  /// alone on its line before a block or comment.
  void push_text(size_t tag, bool is_block) {
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    size_t end = tag;
    const auto text = std::string_view(source_).substr(pos_, tag - pos_);
    if (tag < source_.size() && sign == '-') {
      end = pos_ + end_of_stripped(text, 0);
    } else if (tag < source_.size() && sign != '+' && is_block) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == text.npos ? 0 : newline + 1;
      const bool begins_line = line > 0 || pos_ == 0 || source_[pos_ - 1] == '\n';
      if (begins_line && begin_of_stripped(text.substr(line)) == text.size() - line) {
        end = pos_ + line;
      }
    }
    if (end > pos_) push(Kind::kText, source_.substr(pos_, end - pos_), pos_);
    pos_ = tag;
  }

  void take_text_and_tag() {
    const size_t tag = find_tag();
    const char second = tag < source_.size() ? source_[tag + 1] : ' ';
    push_text(tag, second != '{');
    if (tag == source_.size()) return;
    pos_ += 2;
    if (pos_ < source_.size() && is_sign(source_[pos_])) ++pos_;
    if (second == '#') {
      take_comment(tag);
    } else if (second == '{') {
      push(Kind::kOutputBegin, "{{", tag);
      take_code("}}", Kind::kOutputEnd, tag);
    } else if (!take_raw(tag)) {
      push(Kind::kBlockBegin, "{%", tag);
      take_code("%}", Kind::kBlockEnd, tag);
    }
  }

  void skip_space() { pos_ += begin_of_stripped(rest()); }

  /// Behind the closing braces at pos_: "-" takes all white space with it, a block its newline.
  void trim_after(char sign, bool is_block) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && is_block && starts_with("\n")) {
      ++pos_;
    }
  }

  void take_comment(size_t tag) {
    const size_t end = source_.find("#}", pos_);
    if (end == source_.npos) fail("a comment is not closed", tag);
    const char sign = end > pos_ ? source_[end - 1] : ' ';
    pos_ = end + 2;
    trim_after(sign, true);
  }

  /// {% raw %} … {% endraw %}; false where this is another block.
  bool take_raw(size_t tag) {
    const size_t begin = pos_;
    skip_space();
    const bool is_raw = starts_with("raw");
    if (is_raw) {
      pos_ += 3;
      skip_space();
    }
    if (!is_raw || !(starts_with("%}") || starts_with("-%}"))) {
      pos_ = begin;
      return false;
    }
    const char sign = source_[pos_];
    pos_ += sign == '-' ? 3 : 2;
    trim_after(sign, false);
    for (size_t end = source_.find("{%", pos_); end != source_.npos;
         end = source_.find("{%", end + 2)) {
      size_t behind = end + 2;
      if (behind < source_.size() && is_sign(source_[behind])) ++behind;
      behind += begin_of_stripped(std::string_view(source_).substr(behind));
      if (source_.compare(behind, 6, "endraw") != 0) continue;
      behind += 6;
      behind += begin_of_stripped(std::string_view(source_).substr(behind));
      const char end_sign = behind < source_.size() ? source_[behind] : ' ';
      if (is_sign(end_sign)) ++behind;
      if (source_.compare(behind, 2, "%}") != 0) continue;
      push_text(end, true);
      pos_ = behind + 2;
      trim_after(end_sign, true);
      return true;
    }
    fail("a raw block is not closed", tag);
  }

  void take_code(std::string_view close, Kind close_kind, size_t tag) {
    std::string open_brackets;
    while (true) {
      skip_space();
      if (pos_ >= source_.size()) fail("a tag is not closed", tag);
      const bool has_sign = is_sign(source_[pos_]) && (source_[pos_] == '-' || close == "%}") &&
                            rest().compare(1, close.size(), close) == 0;
      if (open_brackets.empty() && (has_sign || starts_with(close))) {
        const char sign = has_sign ? source_[pos_] : ' ';
        push(close_kind, std::string(close), pos_);
        pos_ += close.size() + (has_sign ? 1 : 0);
        trim_after(sign, close == "%}");
        return;
      }
      take_token(open_brackets);
    }
  }

  void take_token(std::string& open_brackets) {
    const char c = source_[pos_];
    const size_t begin = pos_;
    if (is_name_start(c)) {
      while (pos_ < source_.size() && (is_name_start(source_[pos_]) || is_digit(source_[pos_]))) {
        ++pos_;
      }
      push(Kind::kName, source_.substr(begin, pos_ - begin), begin);
    } else if (is_digit(c)) {
      take_number();
    } else if (c == '"' || c == '\'') {
      take_string();
    } else {
      take_operator(open_brackets);
    }
  }

  void take_digits(std::string& digits) {
    while (pos_ < source_.size() && (is_digit(source_[pos_]) || source_[pos_] == '_')) {
      if (source_[pos_] != '_') digits += source_[pos_];
      ++pos_;
    }
  }

  void take_number() {
    const size_t begin = pos_;
    std::string digits;
    Kind kind = Kind::kInteger;
    take_digits(digits);
    if (pos_ + 1 < source_.size() && source_[pos_] == '.' && is_digit(source_[pos_ + 1])) {
      kind = Kind::kFloat;
      digits += source_[pos_++];
      take_digits(digits);
    }
    if (pos_ < source_.size() && (source_[pos_] == 'e' || source_[pos_] == 'E')) {
      size_t exponent = pos_ + 1;
      if (exponent < source_.size() && is_sign(source_[exponent])) ++exponent;
      if (exponent < source_.size() && is_digit(source_[exponent])) {
        kind = Kind::kFloat;
        digits += source_.substr(pos_, exponent - pos_);
        pos_ = exponent;
        take_digits(digits);
      }
    }
    push(kind, std::move(digits), begin);
  }

  void take_string() {
    const size_t begin = pos_;
    const char quote = source_[pos_++];
    std::string text;
    while (pos_ < source_.size() && source_[pos_] != quote) {
      if (source_[pos_] == '\\' && pos_ + 1 < source_.size()) {
        take_escape(text);
      } else {
        text += source_[pos_++];
      }
    }
    if (pos_ == source_.size()) fail("a string is not closed", begin);
    ++pos_;
    push(Kind::kString, std::move(text), begin);
  }

  /// As in Python, an escape that is none stays as it is written.
  void take_escape(std::string& text) {
    const char c = source_[pos_ + 1];
    const size_t begin = pos_;
    pos_ += 2;
    constexpr std::string_view kNames = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t simple = kNames.find(c); simple != kNames.npos) {
      text += kMeanings[simple];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      append_utf8(take_code_point(16, c == 'x' ? 2 : c == 'u' ? 4 : 8, begin), text);
    } else if (c >= '0' && c <= '7') {
      --pos_;
      append_utf8(take_code_point(8, 3, begin), text);
    } else if (c != '\n') {
      text += '\\';
      text += c;
    }
  }

  char32_t take_code_point(int base, int max_digits, size_t begin) {
    const size_t first = pos_;
    constexpr std::string_view kDigits = "0123456789abcdef";
    uint64_t code = 0;
    for (int i = 0; i < max_digits && pos_ < source_.size(); ++i, ++pos_) {
      const char c = source_[pos_];
      const size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
      if (digit >= static_cast<size_t>(base)) break;
      code = code * static_cast<uint64_t>(base) + digit;
    }
    const bool is_short = base == 16 && pos_ - first < static_cast<size_t>(max_digits);
    if (is_short || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      fail("an escape in a string names no character", begin);
    }
    return static_cast<char32_t>(code);
  }

  void take_operator(std::string& open_brackets) {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
        ">",  "=",  ".",  ",",  ":",  "|",  "(", ")", "[", "]", "{", "}", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view op) { return starts_with(op); });
    if (found == kOperators.end()) fail("a character that cannot stand in a tag", pos_);
    const char c = (*found)[0];
    if (c == '(') open_brackets += ')';
    if (c == '[') open_brackets += ']';
    if (c == '{') open_brackets += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty() || open_brackets.back() != c) {
        fail(std::string("unexpected '") + c + "'", pos_);
      }
      open_brackets.pop_back();
    }
    push(Kind::kOperator, std::string(*found), pos_);
    pos_ += found->size();
  }

  std::string source_;
  size_t pos_ = 0;
  size_t counted_ = 0;
  Position here_ = {1, 1};  // of the byte counted_
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace quire::jinja
