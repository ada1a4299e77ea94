#include "kernels/cpu/gate_scan.h"

#include <cmath>

#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd_rows.h"

// The history is walked from its newest block to its oldest: what a row needs is more often near
// it, and the sooner its threshold is high, the fewer scores come near it. Rows go through a tile
// of centroids in groups whose scores stay in the first cache. A group starts with exact scores;
// once few of a tile's are above the thresholds, tiles are screened, and only what the screen names
// is scored. Keys are ordered totally and exact scores do not depend on who asks for them, so none
// of this changes a selection.

namespace quire::cpu {
namespace {

constexpr int64_t kGroupRows = 48;
static_assert(kGroupRows <= ScreenedQueries::kMaxRows);
/// A score by itself costs a few percent of what a row's scores against a whole tile cost: beyond
/// this many per row of a group, the tile is scored as a whole.
constexpr int64_t kMaxNamedPerRow = 2;
constexpr int64_t kMaxNamed = kMaxNamedPerRow * kGroupRows;
/// Tiles that a group scores as a whole before it tries to screen again.
constexpr int kTilesBetweenTries = 4;
/// Centroids whose mean is the offset.
constexpr int64_t kOffsetSamples = 64;

/// What the screen has named and nobody has scored yet.
struct Pair {
  const float* query;
  const BFloat16* centroid;
  int64_t row, block;
};

/// What a scan works in; kept by its thread from call to call. For tiles of 512 rows of 128
/// dimensions less than half a MiB.
struct ScanMemory {
  Scratch<BFloat16> query;         // of a row, where it is not the batch's own
  std::vector<CacheLine> queries;  // packed rows
  std::vector<CacheLine> keys;     // a packed tile
  std::vector<int64_t> current_blocks;
  std::vector<int> tiles_until_screen;  // per group
  ScreenedQueries screened;
  alignas(64) float scores[kGroupRows * kTileKeys];
  uint64_t masks[kGroupRows];
  Pair pairs[kMaxNamed + kMaxPairs];
};

float* at_least(std::vector<CacheLine>& lines, int64_t num_floats) {
  const auto count = static_cast<size_t>(num_floats + 15) / 16;
  if (lines.size() < count) lines.resize(count);
  return lines.front().values;
}

/// A tile of the history: blocks [first_block, first_block + count).
struct HistoryTile {
  int64_t first_block, count;
  const BFloat16* centroids[kTileKeys];
  bool is_packed = false;
};

class Scan {
 public:
  Scan(const MobaGateParams& params, const RowTile& tile, const ScreenedKeys* screened,
       RunningTops& tops, ScanMemory& scratch)
      : rows_(params, tile),
        digest_dim_(params.kv.digest_dim()),
        stride_(query_stride(digest_dim_)),
        screened_(screened),
        tops_(tops),
        scratch_(scratch),
        queries_(at_least(scratch.queries, rows_.size() * stride_)),
        keys_(at_least(scratch.keys, packed_keys_size(digest_dim_))) {
    const int64_t num_groups = (rows_.size() + kGroupRows - 1) / kGroupRows;
    scratch.current_blocks.resize(static_cast<size_t>(rows_.size()));
    scratch.tiles_until_screen.assign(static_cast<size_t>(num_groups), 1);
    if (screened != nullptr) scratch.screened.reset(rows_.size(), digest_dim_);
    for (int64_t r = 0; r < rows_.size(); ++r) {
      const BFloat16* query = gate_query(params, rows_, r, scratch.query);
      scratch.current_blocks[static_cast<size_t>(r)] = rows_.current_block(r);
      pack_query(query, digest_dim_, queries_ + r * stride_);
      if (screened != nullptr) scratch.screened.pack(r, query, *screened);
    }
  }

  /// What is offered last counts from `finish` on.
  void offer(HistoryTile& tile) {
    const bool can_screen =
        screened_ != nullptr && screened_->is_usable(tile.first_block / kTileKeys);
    for (int64_t r0 = 0; r0 < rows_.size(); r0 += kGroupRows) {
      const int64_t num_rows = std::min(kGroupRows, rows_.size() - r0);
      if (current_block(r0 + num_rows - 1) <= tile.first_block) continue;
      int& tiles_until_screen = scratch_.tiles_until_screen[static_cast<size_t>(r0 / kGroupRows)];
      if (can_screen && tiles_until_screen <= 0) {
        if (offer_screened(tile, r0, num_rows)) continue;
        tiles_until_screen = kTilesBetweenTries;
      }
      const int64_t num_offered = offer_all(tile, r0, num_rows);
      --tiles_until_screen;
      if (num_offered > kMaxNamedPerRow * num_rows)
        tiles_until_screen = std::max(tiles_until_screen, 1);
    }
  }

  void finish() { offer_pairs(num_pairs_); }

 private:
  int64_t current_block(int64_t r) const { return scratch_.current_blocks[static_cast<size_t>(r)]; }

  /// The keys of a tile that a row sees, as bits.
  uint64_t visible(const HistoryTile& tile, int64_t r) const {
    return first_bits(std::min(tile.count, current_block(r) - tile.first_block));
  }

  /// Returns how many scores were not below their thresholds.
  int64_t offer_all(HistoryTile& tile, int64_t r0, int64_t num_rows) {
    if (!tile.is_packed) pack_keys(tile.centroids, tile.count, digest_dim_, keys_);
    tile.is_packed = true;
    score_above(queries_ + r0 * stride_, num_rows, digest_dim_, keys_, tops_.thresholds() + r0,
                scratch_.scores, scratch_.masks);
    int64_t num_offered = 0;
    for (int64_t r = 0; r < num_rows; ++r) {
      if (scratch_.masks[r] == 0) continue;
      uint64_t mask = scratch_.masks[r] & visible(tile, r0 + r);
      for (; mask != 0; mask &= mask - 1) {
        const int j = std::countr_zero(mask);
        tops_.offer(r0 + r, sort_key(scratch_.scores[r * kTileKeys + j], tile.first_block + j));
        ++num_offered;
      }
    }
    return num_offered;
  }

  /// False, and nothing named, if the screen names so many scores that nothing is won.
  bool offer_screened(const HistoryTile& tile, int64_t r0, int64_t num_rows) {
    ScanMemory& s = scratch_;
    const std::span<const float> thresholds(tops_.thresholds() + r0, static_cast<size_t>(num_rows));
    uint64_t named =
        s.screened.screen(r0, *screened_, tile.first_block / kTileKeys, thresholds, s.masks);
    const int64_t first_pair = num_pairs_;
    for (; named != 0; named &= named - 1) {
      const int r = std::countr_zero(named);
      uint64_t mask = s.masks[r] & visible(tile, r0 + r);
      for (; mask != 0; mask &= mask - 1) {
        if (num_pairs_ - first_pair == kMaxNamedPerRow * num_rows) {
          num_pairs_ = first_pair;
          return false;
        }
        const int j = std::countr_zero(mask);
        // Nothing else reads centroids here; by the time this pair is scored, its own has come.
        for (int64_t i = 0; i < digest_dim_; i += 32) __builtin_prefetch(tile.centroids[j] + i);
        s.pairs[num_pairs_++] = {queries_ + (r0 + r) * stride_, tile.centroids[j], r0 + r,
                                 tile.first_block + j};
      }
    }
    if (num_pairs_ >= kMaxPairs) offer_pairs(num_pairs_ / kMaxPairs * kMaxPairs);
    return true;
  }

  /// Scores and offers the last `count` pairs.
  void offer_pairs(int64_t count) {
    for (; count > 0; count -= std::min(count, kMaxPairs)) {
      const int64_t num_scored = std::min(count, kMaxPairs);
      const Pair* pairs = scratch_.pairs + (num_pairs_ -= num_scored);
      const float* queries[kMaxPairs];
      const BFloat16* keys[kMaxPairs];
      float scores[kMaxPairs];
      for (int64_t i = 0; i < num_scored; ++i) {
        queries[i] = pairs[i].query;
        keys[i] = pairs[i].centroid;
      }
      score_pairs(queries, keys, num_scored, digest_dim_, scores);
      for (int64_t i = 0; i < num_scored; ++i) {
        tops_.offer(pairs[i].row, sort_key(scores[i], pairs[i].block));
      }
    }
  }

  TileRows rows_;
  int64_t digest_dim_, stride_;
  const ScreenedKeys* screened_;
  RunningTops& tops_;
  ScanMemory& scratch_;
  float* queries_;
  float* keys_;
  int64_t num_pairs_ = 0;
};

}  // namespace

const BFloat16* gate_query(const MobaGateParams& params, const TileRows& rows, int64_t r,
                           Scratch<BFloat16>& memory) {
  const auto* query =
      reinterpret_cast<const BFloat16*>(address(params.query, rows.token_row(r), rows.head(r)));
  if (params.kv.digest == BlockDigest::kMean) return query;
  const auto digest_dim = static_cast<size_t>(params.kv.digest_dim());
  const std::span<BFloat16> expanded(memory.reserve(digest_dim), digest_dim);
  expand_query(params.kv.digest,
               std::span<const BFloat16>(query, static_cast<size_t>(params.kv.head_dim())),
               expanded);
  return expanded.data();
}

const BFloat16* centroid(const MobaGateParams& params, const SequenceRows& sequence,
                         int64_t kv_head, int64_t logical_block) {
  return reinterpret_cast<const BFloat16*>(
      address(params.kv.centroids, sequence.block_table[logical_block], kv_head));
}

ScreenedKeys make_screened_keys(const MobaGateParams& params, const SequenceRows& sequence,
                                int64_t kv_head, int64_t num_blocks) {
  const auto digest_dim = static_cast<size_t>(params.kv.digest_dim());
  std::vector<float> offset(digest_dim), sample(digest_dim);
  int64_t num_samples = 0;
  const int64_t step = (num_blocks + kOffsetSamples - 1) / kOffsetSamples;
  for (int64_t block = 0; block < num_blocks; block += step) {
    to_float(centroid(params, sequence, kv_head, block), params.kv.digest_dim(), sample.data());
    const bool is_usual =
        std::all_of(sample.begin(), sample.end(), [](float x) { return std::abs(x) < 0x1p40f; });
    if (!is_usual) continue;
    ++num_samples;
    for (size_t i = 0; i < digest_dim; ++i) offset[i] += sample[i];
  }
  for (float& x : offset) x /= static_cast<float>(std::max<int64_t>(num_samples, 1));
  return ScreenedKeys(num_blocks, std::move(offset));
}

void pack_screened_tile(const MobaGateParams& params, const SequenceRows& sequence, int64_t kv_head,
                        int64_t num_blocks, int64_t tile, ScreenedKeys& keys) {
  const BFloat16* centroids[kTileKeys];
  const int64_t first = tile * kTileKeys, count = std::min(kTileKeys, num_blocks - first);
  for (int64_t j = 0; j < count; ++j) {
    centroids[j] = centroid(params, sequence, kv_head, first + j);
  }
  keys.pack(tile, centroids, count);
}

void scan_history(const MobaGateParams& params, const RowTile& tile, const ScreenedKeys* screened,
                  int64_t first_block, int64_t end_block, RunningTops& tops) {
  static thread_local ScanMemory scratch;
  Scan scan(params, tile, screened, tops, scratch);
  const int64_t last = (end_block - 1) / kTileKeys * kTileKeys;
  for (int64_t first = last; first >= first_block; first -= kTileKeys) {
    HistoryTile history{first, std::min(kTileKeys, end_block - first), {}};
    for (int64_t j = 0; j < history.count; ++j) {
      history.centroids[j] = centroid(params, *tile.sequence, tile.kv_head, first + j);
    }
    scan.offer(history);
  }
  scan.finish();
}

}  // namespace quire::cpu
