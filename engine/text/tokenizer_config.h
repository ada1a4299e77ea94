#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/bpe/added_tokens.h"
#include "engine/text/bpe/bpe_tokenizer.h"

namespace quire {

/// What changes ids beside the tokenizer's own file.
struct TokenizerConfig {
  // of tokenizer_config.json
  std::string source_name = {};           // the file, for messages
  std::string tokenizer_class = {};       // without its "Fast"; empty: none is named
  std::optional<bool> adds_bos = {};      // add_bos_token
  std::optional<bool> adds_eos = {};      // add_eos_token
  std::optional<bool> is_legacy = {};     // legacy
  bool adds_prefix_space = true;          // add_prefix_space
  std::vector<AddedToken> added = {};     // added_tokens_decoder, by id
  std::vector<std::string> special = {};  // content of bos_token, eos_token and the like

  // of config.json
  std::string model_type = {};             // empty: none is named
  std::optional<int32_t> vocab_size = {};  // transformers' default where the key is absent

  // of config.json and generation_config.json
  std::vector<TokenId> end_ids = {};  // eos_token_id
  std::string end_source_name = {};   // the last file that names one
};

/// Throws LoadError, beginning with `source_name`, for what is malformed and for what changes ids
/// in a way that is not supported.
TokenizerConfig parse_tokenizer_config(std::string_view json, const std::string& source_name);

/// The files of a folder. One that is absent says nothing. Throws LoadError.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& model_dir);

/// What transformers makes of a tokenizer.json beside such a config:
/// - added_tokens_decoder wins over the file's added tokens, and may add to them; what it calls by
///   another id is refused.
/// - bos_token and the like are special, if they are in the vocabulary.
/// - A Llama of class LlamaTokenizer (a Mistral's file is taken as it is) whose tokens are not
///   byte-level has no normalizer: spaces become "▁", and one more is put in front of the prompt,
///   unless it starts with one. `legacy` also puts one behind every special token; with
///   add_prefix_space false there is none at all.
/// - add_bos_token and add_eos_token are not asked: the file's post_processor decides.
void apply_tokenizer_config(const TokenizerConfig& config, BpeTokenizerSpec& spec);

}  // namespace quire
