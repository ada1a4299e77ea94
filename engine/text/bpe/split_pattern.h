#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace quire {

/// The pattern by which a tokenizer cuts text, matched by PCRE2, just-in-time compiled where this
/// build of PCRE2 can.
///
/// Such patterns are written for Oniguruma in Ruby's syntax. Where both engines agree the pattern
/// is passed on; `\s` is spelled out, for PCRE2 counts U+180E as white space; what the two read
/// differently (`\w`, `\b`, `^`, `.`, `$` but in `\s+$`, `{2}+`, POSIX and nested classes, flags
/// but `i`) and what matches nothing at all is refused. Thread-safe.
class SplitPattern {
 public:
  enum class Kind { kRegex, kLiteral };
  struct Match {
    size_t begin;
    size_t end;
  };

  /// Throws LoadError, beginning with `where`.
  SplitPattern(std::string_view pattern, Kind kind, const std::string& where);

  /// Whether it asks for a text, not for kinds of characters.
  bool is_literal() const { return !literal_.empty(); }

  /// The first match in valid UTF-8 `text` that starts at `from` or behind it; never empty. Throws
  /// std::runtime_error if the pattern needs more than kMaxMatchSteps for it.
  std::optional<Match> find(std::string_view text, size_t from) const;

  static constexpr unsigned kMaxMatchSteps = 1'000'000'000;

 private:
  void compile(const std::string& pattern, const std::string& where);

  std::string literal_;                            // empty: code_ is the pattern
  std::shared_ptr<const pcre2_real_code_8> code_;  // copies share it
  bool is_compiled_ = false;                       // just in time
};

}  // namespace quire
