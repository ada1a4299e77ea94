#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/marked_text.h"
#include "engine/text/tokenizer.h"

namespace quire {

/// Turns rendered prompts into tokens. A control token's name stands for the token where the
/// template wrote all of it, and is text where any byte of it came from the request: a user can
/// spell "<|end|>", and nothing ends.
///
/// Ids are those of the whole prompt: text is cut at control tokens and nowhere else, so that words
/// which the template began and a message ends are one word. Immutable, thread-safe.
class PromptEncoder {
 public:
  /// `tokenizer` must outlive this.
  explicit PromptEncoder(const Tokenizer& tokenizer);

  std::vector<TokenId> encode(const jinja::MarkedText& prompt) const;

 private:
  struct ControlToken {
    std::string name;
    TokenId id;
    bool takes_space_left;
    bool takes_space_right;
  };
  class Encoding;
  /// The longest control token that `text` starts with; null if there is none.
  const ControlToken* find_at_start(std::string_view text) const;

  const Tokenizer& tokenizer_;
  std::array<std::vector<ControlToken>, 256> by_first_byte_;  // the longest first
};

}  // namespace quire
