#include "engine/text/gguf_tokenizer.h"

#include <string>
#include <utility>

#include "engine/text/bpe/bpe_tokenizer.h"
#include "engine/text/bpe/tokenizer_json.h"
#include "engine/text/chat_template.h"
#include "engine/text/gguf_bpe.h"
#include "engine/text/gguf_sentencepiece.h"
#include "engine/text/reserved_tokens.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "models/weights/gguf.h"

namespace quire {

namespace {

std::unique_ptr<Tokenizer> make_tokenizer(const GgufMetadata& metadata,
                                          const std::filesystem::path& file, int num_threads) {
  constexpr std::string_view kKind = "tokenizer.ggml.model";
  const std::string_view kind = metadata.text(kKind);
  if (kind == "llama") {
    return std::make_unique<SentencePieceTokenizer>(sentencepiece_model_of(metadata), file.string(),
                                                    num_threads);
  }
  if (kind == "gpt2") {
    const std::string source_name = file.string();
    BpeTokenizerSpec spec = read_tokenizer_json(tokenizer_json_of(metadata), source_name);
    reserve_tokens(read_chat_templates(file), spec.added_tokens);
    return std::make_unique<BpeTokenizer>(std::move(spec), source_name);
  }
  metadata.fail(kKind,
                "unknown tokenizer '" + std::string(kind.substr(0, 100)) + "'; known: llama, gpt2");
}

}  // namespace

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file, int num_threads) {
  const GgufFile gguf(file);
  auto tokenizer = make_tokenizer(gguf.metadata(), file, num_threads);
  const GgufTensor* embedding = gguf.find("token_embd.weight");
  const int64_t num_rows = embedding == nullptr || embedding->shape.empty()
                               ? tokenizer->vocab_size()
                               : embedding->shape.front();
  if (tokenizer->vocab_size() > num_rows || tokenizer->vocab_size() < num_rows / 2) {
    gguf.metadata().fail("tokenizer.ggml.tokens", std::to_string(tokenizer->vocab_size()) +
                                                      " tokens, but the model has " +
                                                      std::to_string(num_rows));
  }
  return tokenizer;
}

}  // namespace quire
