#include "engine/text/prompt_encoder.h"

#include <algorithm>

#include "engine/text/bpe/text_normalizer.h"

namespace quire {

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_control(id)) continue;
    std::string name = tokenizer.piece_name(id);
    if (name.empty()) continue;
    by_first_byte_[static_cast<unsigned char>(name.front())].push_back(
        {std::move(name), id, tokenizer.takes_space_left(id), tokenizer.takes_space_right(id)});
  }
  for (std::vector<ControlToken>& tokens : by_first_byte_) {
    std::ranges::stable_sort(tokens, [](const ControlToken& left, const ControlToken& right) {
      return left.name.size() > right.name.size();
    });
  }
}

const PromptEncoder::ControlToken* PromptEncoder::find_at_start(std::string_view text) const {
  for (const ControlToken& token : by_first_byte_[static_cast<unsigned char>(text.front())]) {
    if (text.starts_with(token.name)) return &token;
  }
  return nullptr;
}

/// One prompt on its way.
class PromptEncoder::Encoding {
 public:
  Encoding(const PromptEncoder& encoder, std::string_view text) : encoder_(encoder), text_(text) {}

  /// Finds the control tokens in text[begin, end), which the template wrote.
  void read_template(size_t begin, size_t end) {
    size_t pos = std::max(begin, taken_);
    while (pos < end) {
      const ControlToken* token = encoder_.find_at_start(text_.substr(pos, end - pos));
      if (token == nullptr) {
        ++pos;
        continue;
      }
      encode_up_to(pos, token->takes_space_left);
      ids_.push_back(token->id);
      pos += token->name.size();
      taken_ = pos;
      if (token->takes_space_right) taken_ = text_.size() - strip_left(text_.substr(pos)).size();
      pos = std::max(pos, taken_);
    }
  }

  std::vector<TokenId> finish() {
    encode_up_to(text_.size(), false);
    return std::move(ids_);
  }

 private:
  void encode_up_to(size_t pos, bool without_space) {
    std::string_view part = text_.substr(taken_, pos - taken_);
    if (without_space) part = strip_right(part);
    if (part.empty()) return;
    const Tokenizer& tokenizer = encoder_.tokenizer_;
    std::vector<TokenId> ids =
        taken_ == 0 ? tokenizer.encode(part) : tokenizer.encode_behind_token(part);
    if (ids_.empty()) {
      ids_ = std::move(ids);
    } else {
      ids_.insert(ids_.end(), ids.begin(), ids.end());
    }
  }

  const PromptEncoder& encoder_;
  std::string_view text_;
  size_t taken_ = 0;  // bytes of which the tokens are there
  std::vector<TokenId> ids_;
};

std::vector<TokenId> PromptEncoder::encode(const jinja::MarkedText& prompt) const {
  Encoding encoding(*this, prompt.bytes());
  size_t pos = 0;
  for (const jinja::ByteRange& range : prompt.user_ranges()) {
    encoding.read_template(pos, range.begin);
    pos = range.end;
  }
  encoding.read_template(pos, prompt.size());
  return encoding.finish();
}

}  // namespace quire
