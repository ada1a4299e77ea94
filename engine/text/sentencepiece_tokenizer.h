#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/text/sentencepiece_types.h"
#include "engine/text/tokenizer.h"
#include "engine/text/word_memory.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace quire {

/// A SentencePiece model. The library encodes; this class cuts long texts so that many threads (and
/// a memory of the words of all texts before) can work on them with the very ids that one call
/// gives.
///
/// Where a cut is exact: the library turns a space into "▁" and puts one in front of the text. If
/// no piece of the vocabulary holds a "▁" behind another character, no merge can cross the place
/// before a "▁"; so a text may be cut at a single space between two plain ASCII characters, the
/// space being replaced by the "▁" that the next call puts in front. Where the model's own
/// normaliser makes one space of every run of white space (tried at load), any such run is a place
/// to cut. If the vocabulary does not permit it, texts are encoded by one call.
///
/// What the model's normaliser changes (NFKC forms, runs of white space) stays changed: decode
/// gives the normalised text back. In rare cases encoding that changes it once more: the rules are
/// applied in one pass, so a "℅" before an accent becomes "c/o" before it, which would compose.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  enum class Bos { kAdded, kNone };  // in front of prompts that are text

  /// Throws LoadError.
  SentencePieceTokenizer(const std::filesystem::path& model_file, int num_threads,
                         Bos bos = Bos::kAdded);
  /// `model` is what a tokenizer.model holds, `source_name` where it comes from.
  SentencePieceTokenizer(std::string_view model, const std::string& source_name, int num_threads);
  ~SentencePieceTokenizer() override;

  std::vector<TokenId> encode(std::string_view text) const override;
  void append_piece(TokenId token, std::string& out_bytes) const override;
  std::optional<TokenId> special_token(std::string_view name) const override;
  bool is_special(TokenId token) const override;
  std::string piece_name(TokenId token) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<TokenId> bos() const override { return bos_; }
  std::string decode(const std::vector<TokenId>& tokens, bool skip_special) const override;

  /// One library call, however long the text: what `encode` must equal. For tests.
  std::vector<TokenId> encode_in_one_call(std::string_view text) const;

 private:
  class PartEncoder;

  void load_pieces(const std::vector<PieceType>& types);
  std::vector<TokenId> spell(const std::string& name) const;
  void examine_cuts();
  std::vector<std::string_view> cut_into_parts(std::string_view text) const;
  size_t find_cut(std::string_view text, size_t from, size_t* cut_end) const;
  void encode_call(std::string_view text, std::vector<TokenId>& out) const;

  struct Piece {
    std::string name;   // as the model spells it
    std::string bytes;  // what the token stands for; empty for special tokens
    bool is_special = false;
  };
  const Piece& piece_of(TokenId token) const;

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  int num_threads_;
  std::vector<Piece> pieces_;
  std::unordered_map<std::string, TokenId> special_tokens_;
  std::vector<std::vector<TokenId>> spelled_;  // of special tokens: their name as ordinary text
  std::optional<TokenId> bos_;
  mutable CurrentWordMemory memory_;
  bool may_cut_ = false;          // at single spaces
  bool may_cut_at_runs_ = false;  // at any run of white space
};

}  // namespace quire
