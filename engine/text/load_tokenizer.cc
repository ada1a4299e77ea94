#include <algorithm>
#include <utility>

#include "engine/text/bpe/bpe_tokenizer.h"
#include "engine/text/bpe/tokenizer_json.h"
#include "engine/text/chat_template.h"
#include "engine/text/gguf_tokenizer.h"
#include "engine/text/reserved_tokens.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "engine/text/tokenizer_config.h"
#include "models/strict_json.h"
#include "models/weights/find_gguf.h"

namespace quire {
namespace {

constexpr size_t kMaxJsonBytes = size_t{128} << 20;

/// tokenizer.model alone knows what other files say, or they say the same.
void check_sentencepiece(const Tokenizer& tokenizer, const std::vector<AddedToken>& added,
                         const std::string& source_name) {
  for (const AddedToken& token : added) {
    const bool agrees = token.id < tokenizer.vocab_size() &&
                        tokenizer.piece_name(token.id) == token.content &&
                        (!token.is_special || tokenizer.is_special(token.id));
    if (!agrees) {
      throw LoadError(source_name + ": added token " + describe_json(token.content) + " (id " +
                      std::to_string(token.id) + ") is none of tokenizer.model");
    }
  }
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file,
                                              const TokenizerConfig& config, int num_threads) {
  const auto refuse = [&](const std::string& what) {
    throw LoadError(config.source_name + ": " + what + " is not supported for tokenizer.model");
  };
  if (config.adds_eos.value_or(false)) refuse("'add_eos_token': true");
  if (!config.is_legacy.value_or(true)) refuse("'legacy': false");
  if (!config.adds_prefix_space) refuse("'add_prefix_space': false");
  using Bos = SentencePieceTokenizer::Bos;
  const Bos bos = config.adds_bos.value_or(true) ? Bos::kAdded : Bos::kNone;
  auto tokenizer = std::make_unique<SentencePieceTokenizer>(file, num_threads, bos);
  check_sentencepiece(*tokenizer, config.added, config.source_name);
  return tokenizer;
}

struct Opened {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string source_name;  // the file that has the tokens
};

Opened open_tokenizer(const std::filesystem::path& model_dir, const TokenizerConfig& config,
                      int num_threads) {
  const std::filesystem::path model = model_dir / "tokenizer.model";
  const std::filesystem::path json = model_dir / "tokenizer.json";
  const bool has_model = std::filesystem::exists(model);
  if (!std::filesystem::exists(json)) {
    if (!has_model) {
      throw LoadError(model_dir.string() + ": neither tokenizer.json nor tokenizer.model found");
    }
    return {load_sentencepiece(model, config, num_threads), model.string()};
  }
  const std::string text = read_text_file(json, kMaxJsonBytes);
  if (has_model) {
    if (const auto added = read_sentencepiece_json(text, json.string())) {
      auto tokenizer = load_sentencepiece(model, config, num_threads);
      check_sentencepiece(*tokenizer, *added, json.string());
      return {std::move(tokenizer), model.string()};
    }
  }
  BpeTokenizerSpec spec = read_tokenizer_json(text, json.string());
  apply_tokenizer_config(config, spec);
  reserve_tokens(read_chat_templates(model_dir), spec.added_tokens);
  return {std::make_unique<BpeTokenizer>(std::move(spec), json.string()), json.string()};
}

/// Special tokens may lie behind the model's: no text becomes them, and no chat template of the
/// model's own needs them. Padding tokens often do. A model may well have rows for more tokens.
void check_is_the_models(const Opened& opened, const TokenizerConfig& config) {
  const Tokenizer& tokenizer = *opened.tokenizer;
  for (TokenId id = *config.vocab_size; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) continue;
    throw LoadError(opened.source_name + ": has token " + std::to_string(id) + " " +
                    describe_json(tokenizer.piece_name(id)) + ", but config.json's vocab_size is " +
                    std::to_string(*config.vocab_size));
  }
  if (tokenizer.vocab_size() < *config.vocab_size / 2) {
    throw LoadError(opened.source_name +
                    ": expected the tokenizer of a model whose vocab_size is " +
                    std::to_string(*config.vocab_size) + ", got one of " +
                    std::to_string(tokenizer.vocab_size()) + " tokens");
  }
}

/// Some of the ids may be rows that nobody uses. If all are, no answer would ever end.
void check_ends(const Opened& opened, const TokenizerConfig& config) {
  const TokenId num_tokens = opened.tokenizer->vocab_size();
  const auto is_token = [num_tokens](TokenId id) { return id < num_tokens; };
  if (config.end_ids.empty() ||
      std::any_of(config.end_ids.begin(), config.end_ids.end(), is_token)) {
    return;
  }
  throw LoadError(config.end_source_name + ": 'eos_token_id': expected a token of " +
                  opened.source_name + ", which has " + std::to_string(num_tokens) + ", got " +
                  std::to_string(config.end_ids.front()));
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_dir, int num_threads) {
  if (const auto gguf = find_gguf(model_dir)) return load_gguf_tokenizer(*gguf, num_threads);
  const TokenizerConfig config = read_tokenizer_config(model_dir);
  Opened opened = open_tokenizer(model_dir, config, num_threads);
  if (config.vocab_size) check_is_the_models(opened, config);
  // Whoever trained with tokenizer.model alone may have added tokens in a file of their own.
  if (!std::filesystem::exists(model_dir / "added_tokens.json")) check_ends(opened, config);
  return std::move(opened.tokenizer);
}

}  // namespace quire
