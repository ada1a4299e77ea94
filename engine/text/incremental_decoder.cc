#include "engine/text/incremental_decoder.h"

#include <string_view>

#include "engine/text/utf8.h"

namespace quire {

std::string IncrementalDecoder::push(TokenId token) {
  if (tokenizer_->is_special(token)) {
    if (special_tokens_ == SpecialTokens::kSkip) return {};
    return flush() + tokenizer_->piece_name(token);
  }
  tokenizer_->append_piece(token, pending_bytes_);
  if (drops_space_ && !pending_bytes_.empty()) {
    drops_space_ = false;
    if (pending_bytes_.front() == ' ') pending_bytes_.erase(0, 1);
  }
  return take_characters();
}

std::string IncrementalDecoder::flush() {
  std::string text = take_characters();
  if (!pending_bytes_.empty()) text += kReplacementCharacter;
  pending_bytes_.clear();
  return text;
}

std::string IncrementalDecoder::take_characters() {
  std::string text;
  std::string_view rest = pending_bytes_;
  while (!rest.empty()) {
    const Utf8Prefix prefix = classify_utf8(rest);
    if (prefix.kind == Utf8Prefix::Kind::kIncomplete) break;
    if (prefix.kind == Utf8Prefix::Kind::kCharacter) {
      text += rest.substr(0, prefix.num_bytes);
    } else {
      text += kReplacementCharacter;
    }
    rest.remove_prefix(prefix.num_bytes);
  }
  pending_bytes_ = std::string(rest);
  return text;
}

}  // namespace quire
