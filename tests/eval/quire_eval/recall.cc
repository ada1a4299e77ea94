#include "tests/eval/quire_eval/recall.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "engine/text/tokenizer.h"
#include "models/model.h"
#include "tests/eval/quire_eval/text.h"
#include "tests/eval/quire_eval/watched_model.h"

namespace quire::eval {
namespace {

constexpr int32_t kCacheBlock = 64;  // tokens; full attention does not depend on it
constexpr int32_t kStepTokens = 512;
constexpr int32_t kPlaces = 8;  // of the text, where queries are measured

std::vector<TokenId> read_tokens(const RecallOptions& options, const ModelConfig& config) {
  const auto tokenizer = load_tokenizer(options.model, std::max(options.num_threads, 1));
  std::vector<TokenId> tokens = tokenizer->encode(read_text(options.text));
  if (const auto bos = tokenizer->bos()) tokens.insert(tokens.begin(), *bos);
  const int32_t most = std::min(options.num_tokens, config.max_position_embeddings);
  if (static_cast<int32_t>(tokens.size()) > most) tokens.resize(static_cast<size_t>(most));
  if (static_cast<int32_t>(tokens.size()) < kPlaces * kCacheBlock) {
    throw std::invalid_argument(options.text.string() + ": " + std::to_string(tokens.size()) +
                                " tokens; at least " + std::to_string(kPlaces * kCacheBlock) +
                                " are needed");
  }
  return tokens;
}

std::vector<float> downloaded(Backend& backend, const void* from, int64_t count) {
  std::vector<BFloat16> raw(static_cast<size_t>(count));
  backend.download(from, std::as_writable_bytes(std::span(raw)));
  std::vector<float> values(raw.size());
  std::transform(raw.begin(), raw.end(), values.begin(), to_float);
  return values;
}

/// Keys of one KV head of the only sequence, whose blocks lie in order: [num_keys, head_dim].
std::vector<float> keys_of_head(std::span<const float> tiles, const PagedKvView& kv, int64_t head,
                                int64_t num_keys) {
  std::vector<float> keys;
  const int64_t tile = kv.block_size() * kv.head_dim();
  for (int64_t begin = 0; begin < num_keys; begin += kv.block_size()) {
    const int64_t count = std::min(kv.block_size(), num_keys - begin) * kv.head_dim();
    const auto from = tiles.begin() + (begin / kv.block_size() * kv.num_kv_heads() + head) * tile;
    keys.insert(keys.end(), from, from + count);
  }
  return keys;
}

/// The last `count` queries of one step, all heads of one layer.
RecallSums sums_of_step(Backend& backend, const FullAttentionParams& p, int32_t num_tokens,
                        int32_t end, int32_t count, const RecallOptions& options) {
  const PagedKvView& kv = p.kv;
  backend.synchronize();
  const int64_t num_blocks = (end + kv.block_size() - 1) / kv.block_size();
  const std::vector<float> tiles = downloaded(
      backend, kv.k.data, num_blocks * kv.num_kv_heads() * kv.block_size() * kv.head_dim());
  const int64_t num_heads = p.query.shape[1], row = p.query.stride[0];
  QUIRE_CHECK(p.query.stride[1] == kv.head_dim() && p.query.stride[2] == 1)
      << "queries of heads that do not follow each other";
  const auto* last = p.query.data_as<BFloat16>() + (num_tokens - count) * row;
  const std::vector<float> queries =
      downloaded(backend, last, (count - 1) * row + num_heads * kv.head_dim());

  RecallSums total(options.grid);
  for (int64_t group = 0; group < kv.num_kv_heads(); ++group) {
    const std::vector<float> keys = keys_of_head(tiles, kv, group, end);
    const DigestedKeys digested(keys, kv.head_dim(), options.grid);
    const int64_t ratio = num_heads / kv.num_kv_heads();
    // One sum for every query, added up in their order: the same bits on any number of threads.
    std::vector<RecallSums> sums(static_cast<size_t>(count * ratio), RecallSums(options.grid));
    const auto num_threads = static_cast<size_t>(std::max(options.num_threads, 1));
    const auto work = [&](size_t thread) {
      for (size_t i = thread; i < sums.size(); i += num_threads) {
        const auto index = static_cast<int64_t>(i);
        const int64_t token = index / ratio, head = group * ratio + index % ratio;
        const auto query =
            std::span(queries).subspan(static_cast<size_t>(token * row + head * kv.head_dim()),
                                       static_cast<size_t>(kv.head_dim()));
        add_query(query, end - count + token, p.softmax_scale, digested, options.grid, sums[i]);
      }
    };
    {
      std::vector<std::jthread> threads;
      for (size_t thread = 1; thread < num_threads; ++thread) threads.emplace_back(work, thread);
      work(0);
    }
    for (const RecallSums& part : sums) total += part;
  }
  return total;
}

}  // namespace

RecallSums RecallReport::all_layers() const {
  return std::accumulate(layers.begin(), layers.end(), RecallSums(grid),
                         [](RecallSums sums, const RecallSums& layer) { return sums += layer; });
}

RecallReport measure_recall(const RecallOptions& options) {
  const ModelConfig config = load_model_config(options.model);
  const std::vector<TokenId> tokens = read_tokens(options, config);
  WatchedModel model({.model = options.model,
                      .backend = options.backend,
                      .num_threads = options.num_threads,
                      .max_tokens = static_cast<int32_t>(tokens.size()),
                      .max_step_tokens = kStepTokens,
                      .moba = {.block_size = kCacheBlock,
                               .prefill = AttentionMode::kFull,
                               .decode = AttentionMode::kFull}});
  model.write(0, tokens);
  const auto read_to = [&](int32_t end) { model.read_to(end, AttentionMode::kFull, 1); };
  RecallReport report;
  report.model = std::filesystem::path(options.model).lexically_normal().filename().string();
  report.num_tokens = static_cast<int32_t>(tokens.size());
  report.grid = options.grid;
  report.layers.assign(static_cast<size_t>(config.num_layers), RecallSums(options.grid));
  const int32_t per_place = std::min(
      {(options.num_queries + kPlaces - 1) / kPlaces, kStepTokens, report.num_tokens / kPlaces});
  report.num_queries = kPlaces * per_place;
  for (int32_t place = 1; place <= kPlaces; ++place) {
    const auto end = static_cast<int32_t>(int64_t{report.num_tokens} * place / kPlaces);
    while (end - model.num_computed() > kStepTokens) {
      read_to(model.num_computed() + kStepTokens);
    }
    if (end - model.num_computed() > per_place) read_to(end - per_place);
    const int32_t num_tokens = end - model.num_computed();
    size_t layer = 0;
    model.backend().observe_attention([&](const FullAttentionParams& p) {
      RecallSums& sums = report.layers[layer++];
      // MoBA never replaces a window: such a layer has nothing to recover.
      if (p.window > 0) return;
      sums += sums_of_step(model.backend(), p, num_tokens, end, per_place, options);
    });
    read_to(end);
    model.backend().observe_attention({});
  }
  return report;
}

}  // namespace quire::eval
