#include "engine/text/gguf_tokenizer.h"
#include "engine/text/json_tokenizer.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "models/strict_json.h"
#include "models/weights/find_gguf.h"

namespace quire {
namespace {

constexpr size_t kMaxJsonBytes = size_t{128} << 20;

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_dir, int num_threads) {
  if (const auto gguf = find_gguf(model_dir)) return load_gguf_tokenizer(*gguf, num_threads);
  // Where a folder has both, tokenizer.json was derived from the other.
  const std::filesystem::path model = model_dir / "tokenizer.model";
  if (std::filesystem::exists(model)) {
    return std::make_unique<SentencePieceTokenizer>(model, num_threads);
  }
  const std::filesystem::path json = model_dir / "tokenizer.json";
  if (std::filesystem::exists(json)) {
    return std::make_unique<JsonTokenizer>(read_text_file(json, kMaxJsonBytes), json.string());
  }
  throw LoadError(model_dir.string() + ": neither tokenizer.model nor tokenizer.json found");
}

}  // namespace quire
