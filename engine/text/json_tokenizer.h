#pragma once

#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/text/added_tokens.h"
#include "engine/text/bpe_model.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/text_normalizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/word_memory.h"

namespace quire {

/// A tokenizer.json whose model is BPE: byte-level (GPT-2, Llama 3, Qwen, SmolLM2) or of characters
/// with byte fallback (Llama 2). What the file asks for is done or refused at load, by name; only
/// "truncation" and "padding", which belong to batches, are passed over.
///
/// Ids are those of Hugging Face's library where it is told to leave special tokens in text as text
/// (encode_special_tokens). Added tokens that are not special are found in text, as they are there.
/// Here a special token cannot be spelled even where it is a word of the vocabulary.
///
/// Texts are encoded on the calling thread: where a pattern may cut is known only from the left.
class JsonTokenizer final : public Tokenizer {
 public:
  /// `json` is the file's content, `source_name` its name for messages. Throws LoadError.
  JsonTokenizer(std::string_view json, const std::string& source_name);

  std::vector<TokenId> encode(std::string_view text) const override;
  void append_piece(TokenId token, std::string& out_bytes) const override;
  std::optional<TokenId> special_token(std::string_view name) const override;
  bool is_special(TokenId token) const override;
  std::string piece_name(TokenId token) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<TokenId> bos() const override { return bos_; }
  bool starts_with_added_space() const override { return drops_first_space_; }
  std::string decode(const std::vector<TokenId>& tokens, bool skip_special) const override;

 private:
  class PieceEncoder;
  struct Reader;
  struct Piece {
    std::string name;   // as the file spells it; empty for ids that it leaves out
    std::string bytes;  // what the token stands for; empty for special tokens
    bool is_special = false;
  };

  std::shared_ptr<WordMemory> current_memory() const;

  TextNormalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  AddedTokenFinder added_in_text_;
  AddedTokenFinder added_in_normalized_;
  std::optional<BpeModel> model_;
  bool may_cut_at_marker_ = false;  // no token crosses the start of a "▁" behind another character
  std::vector<Piece> pieces_;
  std::unordered_map<std::string, TokenId> special_tokens_;
  std::optional<TokenId> bos_;
  bool drops_first_space_ = false;
  mutable std::mutex memory_mutex_;             // of the pointer alone
  mutable std::shared_ptr<WordMemory> memory_;  // null until the first text
};

}  // namespace quire
