// Tokens of any bytes, however cut: every output is valid UTF-8, and all of them together do not
// depend on where the bytes were cut into tokens.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/incremental_decoder.h"
#include "engine/text/utf8.h"

namespace {

/// A vocabulary with the given pieces and nothing else.
class Pieces final : public quire::Tokenizer {
 public:
  explicit Pieces(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  std::vector<quire::TokenId> encode(std::string_view) const override { return {}; }
  void append_piece(quire::TokenId token, std::string& out) const override {
    out += pieces_.at(static_cast<size_t>(token));
  }
  std::optional<quire::TokenId> special_token(std::string_view) const override { return {}; }
  bool is_special(quire::TokenId) const override { return false; }
  std::string piece_name(quire::TokenId token) const override {
    return pieces_.at(static_cast<size_t>(token));
  }
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<quire::TokenId> bos() const override { return {}; }
  std::string decode(const std::vector<quire::TokenId>&, bool) const override { return {}; }

 private:
  std::vector<std::string> pieces_;
};

std::string decode(const std::vector<std::string>& pieces) {
  const Pieces tokenizer(pieces);
  quire::IncrementalDecoder decoder(tokenizer, quire::IncrementalDecoder::SpecialTokens::kSkip,
                                    quire::IncrementalDecoder::FirstSpace::kDrop);
  std::string text;
  for (quire::TokenId token = 0; token < tokenizer.vocab_size(); ++token) {
    const std::string output = decoder.push(token);
    if (!quire::is_valid_utf8(output)) std::abort();
    text += output;
  }
  const std::string rest = decoder.flush();
  if (!quire::is_valid_utf8(rest) || !decoder.flush().empty()) std::abort();
  return text + rest;
}

}  // namespace

/// Input: pieces, each a byte with its length (mod 8) and the bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> pieces;
  std::string whole;
  while (!rest.empty()) {
    const auto num_bytes = static_cast<size_t>(rest.front() & 7);
    pieces.emplace_back(rest.substr(1, num_bytes));
    whole += pieces.back();
    rest.remove_prefix(std::min(rest.size(), 1 + num_bytes));
  }
  const std::string text = decode(pieces);
  if (text != decode({whole})) std::abort();
  const bool drops_space = whole.starts_with(' ');
  if (quire::is_valid_utf8(whole) && text != whole.substr(drops_space ? 1 : 0)) std::abort();
  return 0;
}
