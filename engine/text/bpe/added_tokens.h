#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// More tokens than any tokenizer has.
inline constexpr TokenId kMaxTokenizerTokens = 1 << 22;

/// A token that stands beside the model's vocabulary: no merge makes it, text is searched for it.
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool is_special = false;
  bool is_reserved = false;    // for the chat template, which writes it; not special
  bool is_normalized = false;  // is looked for in normalised text, otherwise in the text as given
  bool is_single_word = false;
  bool takes_space_left = false;
  bool takes_space_right = false;

  /// Whether text never becomes it.
  bool is_control() const { return is_special || is_reserved; }
};

/// Finds added tokens in text: the leftmost, the longest of those. Control tokens are found too, so
/// that nothing else is found inside of them, but stay text. Const methods are thread-safe.
class AddedTokenFinder {
 public:
  AddedTokenFinder();
  /// `spelling`: as it stands in the text that is searched.
  void add(const AddedToken& token, std::string_view spelling);

  /// Calls `on_text` with (text, start) and `on_token` for what `text` consists of, in order.
  void split(std::string_view text, const std::function<void(std::string_view, size_t)>& on_text,
             const std::function<void(TokenId)>& on_token) const;

 private:
  struct Node {
    std::map<char, size_t> next;
    int token = -1;  // index of the one that ends here
  };
  struct Found {
    int token;
    size_t end;
  };
  Found find_at(std::string_view text, size_t pos) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;            // a trie, the root first
  std::array<bool, 256> may_start_{};  // first bytes of tokens
};

}  // namespace quire
