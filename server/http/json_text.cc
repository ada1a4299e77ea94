#include "server/http/json_text.h"

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/utf8.h"
#include "server/http/json_scan.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kComplaintHead = 160, kComplaintTail = 60;  // bytes: where, and what stands there
constexpr size_t kLongBytes = 4096;  // a string of this size is worth reading by ourselves

/// A string value of the text: [begin, end) between its quotes. It is the `ordinal`th string,
/// names of fields counted.
struct LongString {
  size_t begin = 0, end = 0;
  size_t ordinal = 0;
};

bool is_field_name(std::string_view text, size_t behind_quote) {
  const size_t next = text.find_first_not_of(" \t\r\n", behind_quote);
  return next != std::string_view::npos && text[next] == ':';
}

/// Counts brackets and commas outside strings and notes long strings. Says nothing about
/// well-formedness.
Status survey(std::string_view text, const JsonLimits& limits, std::vector<LongString>& found) {
  int depth = 0;
  int64_t num_values = 1;
  size_t num_strings = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      const size_t begin = i + 1;
      i = find_string_end(text, begin);
      if (i - begin >= kLongBytes && !is_field_name(text, i + 1)) {
        found.push_back({begin, i, num_strings});
      }
      ++num_strings;
    }
    if (c == '[' || c == '{') ++depth, ++num_values;
    if (c == ']' || c == '}') --depth;
    if (c == ',') ++num_values;
    if (depth > limits.max_depth) {
      return invalid_argument("the JSON body is nested deeper than " +
                              std::to_string(limits.max_depth) + " levels");
    }
    if (num_values > limits.max_values) {
      return invalid_argument("the JSON body has more than " + std::to_string(limits.max_values) +
                              " values");
    }
  }
  return {};
}

std::optional<uint32_t> read_hex4(std::string_view text, size_t at) {
  if (at + 4 > text.size()) return std::nullopt;
  uint32_t unit = 0;
  for (const char c : text.substr(at, 4)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    unit = unit * 16 + static_cast<uint32_t>(digit);
  }
  return unit;
}

void append_utf8(uint32_t code, std::string& out) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  const auto put_tail = [&](uint32_t shift) { put(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | (code >> 6));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put_tail(6);
  } else {
    put(0xF0 | (code >> 18));
    put_tail(12);
    put_tail(6);
  }
  put_tail(0);
}

/// Appends what the escape at `content[i]` (a backslash) stands for and moves i behind it. False if
/// it is none.
bool append_escape(std::string_view content, size_t& i, std::string& out) {
  constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  if (i + 1 >= content.size()) return false;
  const char letter = content[i + 1];
  if (letter != 'u') {
    const size_t meaning = kLetters.find(letter);
    if (meaning == std::string_view::npos) return false;
    out += kMeanings[meaning];
    i += 2;
    return true;
  }
  std::optional<uint32_t> code = read_hex4(content, i + 2);
  if (!code || (*code >= 0xDC00 && *code < 0xE000)) return false;
  i += 6;
  if (*code >= 0xD800 && *code < 0xDC00) {
    const bool has_second = content.substr(i, 2) == "\\u";
    const std::optional<uint32_t> second = has_second ? read_hex4(content, i + 2) : std::nullopt;
    if (!second || *second < 0xDC00 || *second >= 0xE000) return false;
    code = 0x10000 + ((*code - 0xD800) << 10) + (*second - 0xDC00);
    i += 6;
  }
  append_utf8(*code, out);
  return true;
}

/// What a string's content stands for; nullopt where it is not well-formed.
std::optional<std::string> unescape(std::string_view content) {
  if (!is_valid_utf8(content)) return std::nullopt;
  std::string out;
  out.reserve(content.size());
  for (size_t i = 0; i < content.size();) {
    const size_t special = find_special_character(content, i);
    out.append(content.substr(i, special - i));
    i = special;
    if (i == content.size()) break;
    if (content[i] != '\\' || !append_escape(content, i, out)) return std::nullopt;
  }
  return out;
}

/// Json::parse for a text with long strings: the parser reads it with empty ones in their places,
/// and they are put in as it comes by. Nullopt where a long string is not well-formed. Throws
/// Json::exception.
std::optional<Json> parse_around(std::string_view text, const std::vector<LongString>& places) {
  std::string rest;
  std::vector<std::string> contents;
  size_t copied = 0;
  for (const LongString& place : places) {
    std::optional<std::string> content =
        unescape(text.substr(place.begin, place.end - place.begin));
    if (!content) return std::nullopt;
    contents.push_back(std::move(*content));
    rest += text.substr(copied, place.begin - copied);
    copied = place.end;
  }
  rest += text.substr(copied);
  size_t num_strings = 0, num_placed = 0;
  return Json::parse(rest, [&](int, Json::parse_event_t event, Json& parsed) {
    const bool is_value = event == Json::parse_event_t::value && parsed.is_string();
    if (!is_value && event != Json::parse_event_t::key) return true;
    if (num_placed < places.size() && places[num_placed].ordinal == num_strings) {
      parsed = std::move(contents[num_placed++]);
    }
    ++num_strings;
    return true;
  });
}

Json parse(std::string_view text, const std::vector<LongString>& places) {
  if (!places.empty()) {
    try {
      if (std::optional<Json> json = parse_around(text, places)) return std::move(*json);
    } catch (const Json::exception&) {
      // The complaint must tell places in the text as it came: once more, below.
    }
  }
  return Json::parse(text);
}

/// The parser's complaint without its own bookkeeping ("[json.exception.parse_error.101] "). It
/// quotes all of the string or number that it stopped in, which may be a whole document.
std::string complaint(const Json::exception& error) {
  std::string what = error.what();
  const size_t end = what.find("] ");
  if (end != std::string::npos) what.erase(0, end + 2);
  if (what.size() > kComplaintHead + kComplaintTail) {
    what.replace(kComplaintHead, what.size() - kComplaintHead - kComplaintTail, " ... ");
  }
  return what;
}

}  // namespace

Result<Json> parse_json_object(std::string_view text, const JsonLimits& limits) {
  if (text.empty()) return invalid_argument("the body is empty; it must be a JSON object");
  if (text.find('\0') != std::string_view::npos) {  // to the parser it is the end of the text
    return invalid_argument("the body is not valid JSON: it has a NUL byte");
  }
  std::vector<LongString> long_strings;
  const Status within = survey(text, limits, long_strings);
  if (!within.ok()) return within;
  try {
    Json object = parse(text, long_strings);
    if (!object.is_object()) return invalid_argument("the body must be a JSON object");
    return object;
  } catch (const Json::exception& error) {
    return invalid_argument("the body is not valid JSON: " + complaint(error));
  }
}

}  // namespace quire
