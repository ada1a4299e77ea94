#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/text/bpe/added_tokens.h"
#include "engine/text/bpe/bpe_model.h"
#include "engine/text/bpe/pre_tokenizer.h"
#include "engine/text/bpe/text_normalizer.h"
#include "engine/text/bpe/token_decoder.h"
#include "engine/text/tokenizer.h"
#include "engine/text/word_memory.h"

namespace quire {

/// All that a BPE tokenizer is made of, wherever it was read (tokenizer.json, or any other file
/// that lists tokens and merges). Text goes through it from the top to the bottom: added tokens are
/// cut out, what lies between is normalised, cut into pieces, merged. A byte-level tokenizer needs
/// no more than this:
///
///     BpeTokenizerSpec spec;
///     spec.vocab = …;                                   // as spelled in GPT-2's alphabet of bytes
///     spec.merges = …;                                  // spelled likewise, the first merge first
///     spec.is_byte_level = true;
///     spec.added_tokens = {{.id = 3, .content = "<|end|>", .is_special = true}};
///     spec.pre_tokenizer = PreTokenizer({{.pattern = SplitPattern(…)}});
///     spec.decoder.is_byte_level = true;
///     BpeTokenizer tokenizer(std::move(spec), "model.gguf");
struct BpeTokenizerSpec {
  std::vector<AddedToken> added_tokens;
  TextNormalizer normalizer;
  PreTokenizer pre_tokenizer;

  std::unordered_map<std::string, TokenId> vocab;  // by spelling; no id twice, no empty spelling
  std::vector<std::pair<std::string, std::string>> merges;
  bool is_byte_level = false;  // spellings stand for bytes (byte_alphabet.h)
  bool ignores_merges = false;
  bool has_byte_fallback = false;
  bool fuses_unknown = false;
  std::string unknown;  // spelling; empty: none

  TokenDecoder decoder;
  std::optional<TokenId> bos;  // stands in front of a prompt that is text
};

/// Byte pair encoding, byte-level (GPT-2, Llama 3, Qwen, SmolLM2) or of characters with byte
/// fallback (Llama 2, Mistral, TinyLlama).
///
/// Ids are those of Hugging Face's library where it is told to leave special tokens in text as text
/// (encode_special_tokens). Added tokens that are not special are found in text, as they are there.
/// Here a special token cannot be spelled even where it is a word of the vocabulary.
///
/// Texts are encoded on the calling thread: where a pattern may cut is known only from the left.
class BpeTokenizer final : public Tokenizer {
 public:
  /// Throws LoadError, beginning with `source_name`, for a spec that contradicts itself.
  BpeTokenizer(BpeTokenizerSpec spec, const std::string& source_name);

  std::vector<TokenId> encode(std::string_view text) const override;
  std::vector<TokenId> encode_behind_token(std::string_view text) const override;
  void append_piece(TokenId token, std::string& out_bytes) const override;
  std::optional<TokenId> special_token(std::string_view name) const override;
  bool is_special(TokenId token) const override;
  bool is_control(TokenId token) const override;
  bool takes_space_left(TokenId token) const override;
  bool takes_space_right(TokenId token) const override;
  std::string piece_name(TokenId token) const override;
  int32_t vocab_size() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<TokenId> bos() const override { return bos_; }
  bool starts_with_added_space() const override { return drops_first_space_; }
  std::string decode(const std::vector<TokenId>& tokens, bool skip_special) const override;

  /// What one call of `encode` did, in counts that do not depend on the machine.
  struct Work {
    size_t num_pieces = 0;  // that the text was cut into
    size_t num_queued = 0;  // MergeTable::Scratch
  };
  /// `encode`, without words remembered from texts before. For tests.
  std::vector<TokenId> encode_counting(std::string_view text, Work& work) const;

 private:
  class PieceEncoder;
  struct Piece {
    std::string name;   // as it is spelled; empty for ids that stand for nothing
    std::string bytes;  // what the token stands for; empty for special tokens
    bool is_special = false;
    bool is_control = false;
    bool takes_space_left = false;
    bool takes_space_right = false;
  };

  void load_pieces(const BpeTokenizerSpec& spec, const std::string& source_name);
  void place(TokenId id, const std::string& name, const std::string& source_name);
  const Piece& piece_of(TokenId token) const;
  std::vector<TokenId> encode_part(std::string_view text, bool starts_prompt) const;
  void encode_pieces(std::string_view text, bool starts_prompt, PieceEncoder& encoder) const;

  TextNormalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  AddedTokenFinder added_in_text_;
  AddedTokenFinder added_in_normalized_;
  BpeModel model_;
  bool may_cut_at_marker_ = false;  // no token crosses the start of a "▁" behind another character
  std::vector<Piece> pieces_;
  std::unordered_map<std::string, TokenId> special_tokens_;
  std::optional<TokenId> bos_;
  bool drops_first_space_ = false;
  mutable CurrentWordMemory memory_;
};

}  // namespace quire
