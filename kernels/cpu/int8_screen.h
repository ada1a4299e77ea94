#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/bfloat16.h"

// Which scores can not reach a threshold, told by dot products of 8-bit integers: AVX512_VNNI does
// twice as many of them as of bf16, AMX many times as many, and all of them exactly. The answer
// errs on one side only: a score that is not below its row's threshold is always named, so whoever
// computes the named scores exactly (score_pairs) finds what computing all of them would have
// found, bit for bit.
//
// With an offset o near the mean of the keys c, and integers m, k that stand for q and c - o:
//   q = q_scale m + q_rest,   c - o = c_scale k + c_rest
//   <q, c> = <q, o> + q_scale c_scale <m, k> + <q_rest, c_scale k> + <q, c_rest>
// The last two terms are at most |q_rest| |c_scale k| + |q| |c_rest|, norms that are measured and
// not estimated. So a row's threshold becomes one integer per tile of keys, below which <m, k>
// rules a key out. Without the offset, what all keys of a trained model have in common would use up
// the 8 bits.

namespace quire::cpu {

/// Whether this CPU has the instructions and no test has switched them off.
bool has_int8_screen();
/// Makes this process do without them, or with them again if the CPU has them. For tests; returns
/// whether they are in use now.
bool use_int8_screen(bool wanted);

struct alignas(64) CacheLine {
  float values[16];
};

/// The keys of one history as integers. Different tiles may be packed at the same time.
class ScreenedKeys {
 public:
  /// `offset`: any head_dim finite numbers; near the mean of the keys is best.
  ScreenedKeys(int64_t num_keys, std::vector<float> offset);

  /// Packs keys [tile * kTileKeys, + num_keys), num_keys <= kTileKeys.
  void pack(int64_t tile, const BFloat16* const* keys, int64_t num_keys);

  /// False where a tile has values (NaN, huge ones) that no bound holds for.
  bool is_usable(int64_t tile) const { return tiles_[static_cast<size_t>(tile)].is_usable; }
  int64_t head_dim() const { return static_cast<int64_t>(offset_.size()); }

 private:
  friend class ScreenedQueries;
  /// What the bound needs, in units of the tile's scale.
  struct Tile {
    double inverse_scale, norm, rest;
    bool is_usable;
  };
  uint8_t* bytes(int64_t tile);
  const uint8_t* bytes(int64_t tile) const;

  std::vector<float> offset_;
  std::vector<CacheLine> bytes_;  // [num_tiles, head_dim / 4, kTileKeys, 4] integers k + 128
  std::vector<Tile> tiles_;
};

/// Rows to screen against one ScreenedKeys. Its memory is kept from one use to the next.
class ScreenedQueries {
 public:
  static constexpr int64_t kMaxRows = 64;  // of one call of `screen`

  void reset(int64_t num_rows, int64_t head_dim);
  void pack(int64_t row, const BFloat16* query, const ScreenedKeys& keys);

  /// Bit j of masks[r]: the score of row first_row + r and key j of the tile may not be below
  /// thresholds[r]. Bits behind the tile's last key mean nothing. REQUIRES: keys.is_usable(tile).
  /// Returns the rows with a bit in their mask, as bits.
  uint64_t screen(int64_t first_row, const ScreenedKeys& keys, int64_t tile,
                  std::span<const float> thresholds, uint64_t* masks) const;

 private:
  /// The integers below which <m, k + 128> rules a key out.
  void limits(int64_t first_row, const ScreenedKeys& keys, int64_t tile,
              std::span<const float> thresholds, int32_t* out) const;

  int64_t stride_ = 0;                 // bytes of a row
  std::vector<int8_t> bytes_;          // [num_rows, stride]
  std::vector<double> base_;           // < q, offset >
  std::vector<double> inverse_scale_;  // 1 / q_scale
  std::vector<double> norm_, rest_;    // |q| and |q_rest|, in units of q_scale
  std::vector<double> shift_;          // 128 * sum of m
};

}  // namespace quire::cpu
