#pragma once

#include <string>

#include "engine/core/ids.h"
#include "engine/text/tokenizer.h"

namespace quire {

/// Tokens in, whole UTF-8 characters out. Bytes of an unfinished character wait for the next token;
/// bytes that can never become a character turn into U+FFFD. One per sequence, not thread-safe.
class IncrementalDecoder {
 public:
  enum class SpecialTokens { kSkip, kShow };

  /// `tokenizer` must outlive the decoder.
  IncrementalDecoder(const Tokenizer& tokenizer, SpecialTokens special_tokens)
      : tokenizer_(&tokenizer), special_tokens_(special_tokens) {}

  /// The characters that this token completes; may be empty.
  std::string push(TokenId token);
  /// What is left at the end, unfinished bytes as U+FFFD.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  SpecialTokens special_tokens_;
  std::string pending_bytes_;
};

}  // namespace quire
