#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/ids.h"

namespace quire {

/// Text <-> token ids. All methods are const and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text`; no bos, no eos. Text that looks like a special token is ordinary text: it never
  /// becomes one. Invalid UTF-8 is encoded as if each bad byte were U+FFFD. Long texts may be
  /// encoded in pieces on several threads, with the same ids as one call would give.
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;

  /// Ids of text that follows a control token of the same prompt: some tokenizers put a space in
  /// front of a prompt's first text alone.
  virtual std::vector<TokenId> encode_behind_token(std::string_view text) const {
    return encode(text);
  }

  /// Appends the bytes the token stands for; they may be part of a UTF-8 character. Control tokens
  /// append nothing. So do ids behind the vocabulary, here and below: a model has rows for more
  /// tokens than its tokenizer; such are special and have no name.
  virtual void append_piece(TokenId token, std::string& out_bytes) const = 0;

  /// The id of a control token by its exact name ("<|user|>"), which text can never produce.
  virtual std::optional<TokenId> special_token(std::string_view name) const = 0;
  virtual bool is_special(TokenId token) const = 0;
  /// Whether text never becomes the token: special ones, and those that the model's chat template
  /// has for itself (reserved_tokens.h), which decode to their names.
  virtual bool is_control(TokenId token) const { return is_special(token); }
  /// Whether a control token swallows the white space before or behind it in a prompt.
  virtual bool takes_space_left(TokenId) const { return false; }
  virtual bool takes_space_right(TokenId) const { return false; }
  /// The piece as the vocabulary spells it, for display ("<|user|>", "▁the").
  virtual std::string piece_name(TokenId token) const = 0;

  virtual int32_t vocab_size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  /// Encoding puts a space in front of a text, which whoever reads an answer must drop.
  virtual bool starts_with_added_space() const { return true; }

  /// Text of the ids as one string, with what the first word's leading space needs undone:
  /// decode(encode(x)) is x as the model's normaliser leaves it.
  virtual std::string decode(const std::vector<TokenId>& tokens, bool skip_special) const = 0;
};

/// The tokenizer of a Hugging Face folder, as transformers opens it: tokenizer.json, changed as
/// tokenizer_config.json says (tokenizer_config.h); tokenizer.model where there is no other, or
/// where tokenizer.json was made from it and needs SentencePiece's own normaliser or its Unigram
/// model. `num_threads` bounds one encode call of a SentencePiece model. Throws LoadError; also for
/// what must be another model's: text can become a token that config.json's vocab_size does not
/// reach, there are tokens for less than half of it, or none of the end tokens is one.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_dir, int num_threads);

}  // namespace quire
