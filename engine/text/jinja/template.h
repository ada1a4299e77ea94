#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/error.h"
#include "engine/text/jinja/marked_text.h"
#include "engine/text/jinja/runtime.h"
#include "engine/text/jinja/value.h"

namespace quire::jinja {

struct Variable {
  std::string name;
  Value value;
};

/// What one rendering sees, and what it may use.
struct Input {
  std::vector<Variable> variables = {};  // of two with one name the later counts
  std::tm now = {};                      // what strftime_now tells
  Limits limits = {};
};

/// A chat template in Jinja's language, as far as chat templates use it: no includes, no
/// inheritance, no HTML escaping by itself, nothing that changes a value. Thread-safe.
class Template {
 public:
  /// Throws Error for what is no template, and for filters and tests that are unknown.
  explicit Template(std::string_view source);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// The prompt, with the bytes that came from the request marked. A tokenizer must recognise no
  /// control token in a text that touches such a byte; beyond that it must not split the text where
  /// the ranges begin and end, so that ids are those of the whole text. Throws Error: the
  /// template's own raise_exception, a fault in it, or a limit.
  MarkedText render(const Input& input) const;

 private:
  struct Parsed;
  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace quire::jinja
