#pragma once

#include <string>

#include "engine/core/ids.h"
#include "engine/text/tokenizer.h"

namespace quire {

/// Tokens in, whole UTF-8 characters out. Bytes of an unfinished character wait for the next token;
/// bytes that can never become a character turn into U+FFFD, one per maximal subpart. One per
/// sequence, not thread-safe.
class IncrementalDecoder {
 public:
  enum class SpecialTokens { kSkip, kShow };
  /// A part that was encoded by its own call starts with a space that the tokenizer put there
  /// (dummy prefix). An answer is such a part: its first space is dropped. A continuation is not.
  enum class FirstSpace { kDrop, kKeep };

  /// `tokenizer` must outlive the decoder.
  IncrementalDecoder(const Tokenizer& tokenizer, SpecialTokens special_tokens,
                     FirstSpace first_space)
      : tokenizer_(&tokenizer),
        special_tokens_(special_tokens),
        drops_space_(first_space == FirstSpace::kDrop && tokenizer.starts_with_added_space()) {}

  /// The characters that this token completes; may be empty.
  std::string push(TokenId token);
  /// What is left at the end, unfinished bytes as U+FFFD.
  std::string flush();

 private:
  std::string take_characters();

  const Tokenizer* tokenizer_;
  SpecialTokens special_tokens_;
  bool drops_space_;  // until the first byte has come
  std::string pending_bytes_;
};

}  // namespace quire
