#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/error.h"
#include "engine/text/jinja/marked_text.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

/// What a template sees. Both are objects whose members become names.
struct Input {
  /// Of the model's folder: bos_token, eos_token, …. Its strings may become control tokens.
  const nlohmann::ordered_json& of_model;
  /// Of the request: messages, tools, add_generation_prompt, …. Its strings never may, except a
  /// `role` in messages that is one of the roles every model knows: templates write those into
  /// control tokens.
  const nlohmann::ordered_json& of_request;
  /// What strftime_now tells.
  std::tm now = {};
};

/// A chat template in Jinja's language, as far as chat templates use it: no includes, no
/// inheritance, no HTML escaping, nothing that changes a value. Thread-safe.
class Template {
 public:
  /// Throws Error.
  explicit Template(std::string_view source, const Limits& limits = {});
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
  Limits limits_;
};

}  // namespace quire::jinja
