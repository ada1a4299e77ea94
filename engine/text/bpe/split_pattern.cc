#include "engine/text/bpe/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdexcept>

#include "models/model_config.h"

namespace quire {
namespace {

constexpr size_t kMaxPatternBytes = 1 << 16;
constexpr std::string_view kWhiteSpace =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

/// White space up to the end of a line, which DeepSeek LLM's tokenizers cut off. As it stands it
/// would look at a run once from each of its characters. Only at a run's first can it match: up to
/// the run's end where the text ends there, else up to the last line break in it.
constexpr std::string_view kSpaceToLineEnd = R"(\s+$)";

std::string space_to_line_end() {
  const std::string space = "[" + std::string(kWhiteSpace) + "]";
  return "(?<!" + space + ")(?:" + space + R"(++\z|)" + space + R"(+(?=\n)))";
}

/// Reads a pattern once from left to right, copying what means the same to PCRE2.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : rest_(pattern), where_(where) {}

  std::string translate() {
    while (!rest_.empty()) {
      if (rest_[0] == '\\') {
        take_escape();
      } else if (in_class_) {
        take_in_class();
      } else {
        take_outside();
      }
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw LoadError(where_ + ": " + what + " in a pattern is not supported");
  }

  void copy(size_t num_bytes) {
    result_ += rest_.substr(0, num_bytes);
    rest_.remove_prefix(num_bytes);
  }

  void take_escape() {
    const char letter = rest_.size() > 1 ? rest_[1] : '\0';
    if (letter == 's' || letter == 'S') {
      if (in_class_ && letter == 'S') refuse("\\S inside [ ]");
      if (!in_class_) result_ += letter == 's' ? "[" : "[^";
      result_ += kWhiteSpace;
      if (!in_class_) result_ += ']';
      rest_.remove_prefix(2);
      return;
    }
    constexpr std::string_view kSameLetters = "pPdDrntf";
    const bool is_letter = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                           (letter >= '0' && letter <= '9') || (letter & 0x80) != 0;
    if (letter == '\0' || (is_letter && kSameLetters.find(letter) == std::string_view::npos)) {
      refuse(std::string("\\") + (letter == '\0' || (letter & 0x80) != 0 ? '?' : letter));
    }
    if (letter == 'p' || letter == 'P') {
      const size_t end = rest_.find('}');
      if (!rest_.substr(2).starts_with("{") || end == std::string_view::npos) refuse("\\p");
      return copy(end + 1);
    }
    copy(2);
  }

  void take_in_class() {
    if (rest_[0] == '[') refuse("[ inside [ ]");
    if (rest_.starts_with("&&")) refuse("&&");
    if (rest_[0] == ']') in_class_ = false;
    copy(1);
  }

  void take_outside() {
    const char first = rest_[0];
    if (first == '^' || first == '$' || first == '.') refuse(std::string(1, first));
    if (first == '[') {
      in_class_ = true;
      copy(rest_.starts_with("[^") ? 2 : 1);
      if (rest_.starts_with("]")) refuse("[]");
    } else if (first == '(') {
      take_group();
    } else if (first == '{') {
      const size_t end = rest_.find('}');
      if (end == std::string_view::npos || rest_[1] < '0' || rest_[1] > '9') refuse("{");
      copy(end + 1);
      if (rest_.starts_with("+")) refuse("}+");
    } else {
      copy(1);
    }
  }

  void take_group() {
    for (const char* start : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)"}) {
      if (rest_.starts_with(start)) return copy(std::string_view(start).size());
    }
    if (rest_.starts_with("(?") || rest_.starts_with("(*")) refuse(std::string(rest_.substr(0, 3)));
    copy(1);
  }

  std::string_view rest_;
  const std::string& where_;
  std::string result_;
  bool in_class_ = false;
};

std::string message_of(int error) {
  PCRE2_UCHAR8 text[256];
  pcre2_get_error_message_8(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

/// What a match writes to. One per thread serves all patterns: only the whole match is asked for.
struct MatchSpace {
  pcre2_match_data_8* data = pcre2_match_data_create_8(1, nullptr);
  pcre2_match_context_8* context = pcre2_match_context_create_8(nullptr);
  MatchSpace() {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit_8(context, SplitPattern::kMaxMatchSteps);
  }
  MatchSpace(const MatchSpace&) = delete;
  MatchSpace& operator=(const MatchSpace&) = delete;
  ~MatchSpace() {
    pcre2_match_data_free_8(data);
    pcre2_match_context_free_8(context);
  }
};

}  // namespace

SplitPattern::SplitPattern(std::string_view pattern, Kind kind, const std::string& where) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    throw LoadError(where + ": a pattern of " + std::to_string(pattern.size()) + " bytes");
  }
  if (kind == Kind::kLiteral) {
    literal_ = pattern;
  } else if (pattern == kSpaceToLineEnd) {
    compile(space_to_line_end(), where);
  } else {
    compile(Translator(pattern, where).translate(), where);
  }
}

void SplitPattern::compile(const std::string& pattern, const std::string& where) {
  int error = 0;
  size_t error_pos = 0;
  pcre2_code_8* code =
      pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &error_pos, nullptr);
  if (code == nullptr) throw LoadError(where + ": pattern: " + message_of(error));
  code_ = std::shared_ptr<const pcre2_code_8>(
      code, [](const pcre2_code_8* it) { pcre2_code_free_8(const_cast<pcre2_code_8*>(it)); });
  uint32_t matches_empty = 0;
  pcre2_pattern_info_8(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) throw LoadError(where + ": a pattern that matches the empty text");
  is_compiled_ = pcre2_jit_compile_8(code, PCRE2_JIT_COMPLETE) == 0;
}

std::optional<SplitPattern::Match> SplitPattern::find(std::string_view text, size_t from) const {
  if (!literal_.empty()) {
    const size_t begin = text.find(literal_, from);
    if (begin == std::string_view::npos) return std::nullopt;
    return Match{begin, begin + literal_.size()};
  }
  thread_local MatchSpace space;
  const auto* bytes = reinterpret_cast<PCRE2_SPTR8>(text.data());
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (is_compiled_) {
    found = pcre2_jit_match_8(code_.get(), bytes, text.size(), from, 0, space.data, space.context);
  }
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    // Slower, the same matches; the interpreter keeps its state on the heap.
    found = pcre2_match_8(code_.get(), bytes, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                          space.data, space.context);
  }
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) throw std::runtime_error("tokenizer pattern: " + message_of(found));
  const size_t* ends = pcre2_get_ovector_pointer_8(space.data);
  return Match{ends[0], ends[1]};
}

}  // namespace quire
