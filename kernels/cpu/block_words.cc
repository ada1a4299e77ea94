#include "kernels/cpu/block_words.h"

#include "kernels/check.h"
#include "kernels/cpu/x86_intrinsics.h"

// Products and differences are rounded one by one, as the formats define their numbers: this file
// is compiled with -ffp-contract=off.

namespace quire::cpu::block_words {
namespace {

/// Where a panel keeps what belongs to one block, in bytes.
struct PanelLayout {
  int64_t num_runs;    // of a block
  bool has_minimum;    // Q4_K, Q5_K
  int64_t num_scales;  // of a run, in bytes per column: scale and minimum, or two scales
  int64_t low_bytes;   // of a word and column
  int64_t upper_bits;  // of a word and column, behind the low ones
  int32_t zero;        // of the integers

  constexpr int64_t factors_bytes() const { return kColumns * 2 * (has_minimum ? 2 : 1); }
  constexpr int64_t low_begin() const { return num_scales * kColumns; }
  constexpr int64_t upper_begin() const { return low_begin() + kRunWords * low_bytes * kColumns; }
  constexpr int64_t run_bytes() const {
    return upper_begin() + kRunWords * upper_bits / 8 * kColumns;
  }
  constexpr int64_t block_bytes() const { return factors_bytes() + num_runs * run_bytes(); }
};

constexpr PanelLayout layout_of(BlockFormat format) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return {1, false, 0, 2, 0, 128};
    case BlockFormat::kQ4_0:
      return {1, false, 0, 1, 0, 8};
    case BlockFormat::kQ4_K:
      return {8, true, 2, 1, 0, 0};
    case BlockFormat::kQ5_K:
      return {8, true, 2, 1, 2, 0};
    case BlockFormat::kQ6_K:
      return {8, false, 2, 1, 4, 32};
  }
  return {};
}

void put_float16(std::byte* to, uint16_t bits) {
  to[0] = static_cast<std::byte>(bits & 0xFF);
  to[1] = static_cast<std::byte>(bits >> 8);
}

/// Both elements of a word, and the bits of theirs that do not fit into its nibbles.
void put_word(const PanelLayout& layout, const uint8_t* pair, int64_t word, std::byte* run,
              int64_t column) {
  if (layout.low_bytes == 2) {
    std::byte* low = run + layout.low_begin() + (word * kColumns + column) * 2;
    low[0] = static_cast<std::byte>(pair[0]);
    low[1] = static_cast<std::byte>(pair[1]);
    return;
  }
  run[layout.low_begin() + word * kColumns + column] =
      static_cast<std::byte>((pair[0] & 15) | (pair[1] & 15) << 4);
  if (layout.upper_bits == 0) return;
  const int64_t words_per_byte = 8 / layout.upper_bits;
  const auto half = static_cast<uint32_t>(layout.upper_bits / 2);
  const uint32_t bits = static_cast<uint32_t>(pair[0] >> 4) | static_cast<uint32_t>(pair[1] >> 4)
                                                                  << half;
  run[layout.upper_begin() + word / words_per_byte * kColumns + column] |=
      static_cast<std::byte>(bits << (word % words_per_byte * layout.upper_bits));
}

}  // namespace

int64_t panel_block_bytes(BlockFormat format) { return layout_of(format).block_bytes(); }

void put_block(BlockFormat format, const std::byte* block, int64_t column, std::byte* panel_block) {
  const PanelLayout layout = layout_of(format);
  UnpackedBlock unpacked;
  unpack_block(format, block, unpacked);
  put_float16(panel_block + column * 2, unpacked.d);
  if (layout.has_minimum) put_float16(panel_block + (kColumns + column) * 2, unpacked.dmin);
  for (int64_t r = 0; r < layout.num_runs; ++r) {
    std::byte* run = panel_block + layout.factors_bytes() + r * layout.run_bytes();
    const auto scale = static_cast<size_t>(r * (kRunElements / kScaleElements));
    if (layout.num_scales > 0) {
      run[column] = static_cast<std::byte>(unpacked.scales[scale]);
      run[kColumns + column] = layout.has_minimum
                                   ? static_cast<std::byte>(unpacked.minimums[scale])
                                   : static_cast<std::byte>(unpacked.scales[scale + 1]);
    }
    const uint8_t* q = unpacked.q.data() + r * kRunElements;
    for (int64_t word = 0; word < kRunWords; ++word) {
      put_word(layout, q + 2 * word, word, run, column);
    }
  }
}

#if defined(__x86_64__)

#define QUIRE_WORDS_TARGET target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#define QUIRE_WORDS __attribute__((QUIRE_WORDS_TARGET, always_inline)) inline

namespace {

constexpr int64_t kLanes = 16;

/// What one scale's elements are made with, in 16 columns.
struct Terms {
  __m512 scale;
  __m512 minimum;
};

QUIRE_WORDS __m512 factors_at(const std::byte* at) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}
QUIRE_WORDS __m128i bytes_at(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/// Of words [8 * half, 8 * half + 8) of a run.
template <BlockFormat kFormat>
QUIRE_WORDS Terms terms_of(const std::byte* factors, const std::byte* run, int64_t half) {
  constexpr PanelLayout kLayout = layout_of(kFormat);
  Terms terms{factors_at(factors), _mm512_setzero_ps()};
  if constexpr (kLayout.has_minimum) {
    const __m512i scales = _mm512_cvtepi8_epi32(bytes_at(run));
    const __m512i minimums = _mm512_cvtepu8_epi32(bytes_at(run + kColumns));
    const __m512 dmin = factors_at(factors + kColumns * 2);
    terms.scale = _mm512_mul_ps(terms.scale, _mm512_cvtepi32_ps(scales));
    terms.minimum = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(minimums));
  } else if constexpr (kLayout.num_scales > 0) {
    const __m512i scales = _mm512_cvtepi8_epi32(bytes_at(run + half * kColumns));
    terms.scale = _mm512_mul_ps(terms.scale, _mm512_cvtepi32_ps(scales));
  }
  return terms;
}

/// The integers of a word in 16 columns.
struct Pair {
  __m512i even;
  __m512i odd;
};

template <BlockFormat kFormat>
QUIRE_WORDS Pair pair_at(const std::byte* run, int64_t word) {
  constexpr PanelLayout kLayout = layout_of(kFormat);
  const std::byte* low = run + kLayout.low_begin() + word * kColumns * kLayout.low_bytes;
  Pair pair;
  if constexpr (kLayout.low_bytes == 2) {
    const __m512i both =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low)));
    pair = {_mm512_and_si512(both, _mm512_set1_epi32(255)), _mm512_srli_epi32(both, 8)};
  } else {
    const __m512i both = _mm512_cvtepu8_epi32(bytes_at(low));
    pair = {_mm512_and_si512(both, _mm512_set1_epi32(15)), _mm512_srli_epi32(both, 4)};
  }
  if constexpr (kLayout.upper_bits > 0) {
    constexpr int64_t kWordsPerByte = 8 / kLayout.upper_bits;
    constexpr int kHalf = static_cast<int>(kLayout.upper_bits / 2);
    const std::byte* upper = run + kLayout.upper_begin() + word / kWordsPerByte * kColumns;
    const auto shift = static_cast<unsigned>(word % kWordsPerByte * kLayout.upper_bits);
    const __m512i bits = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes_at(upper)),
                                          _mm_cvtsi32_si128(static_cast<int>(shift)));
    const __m512i mask = _mm512_set1_epi32((1 << kHalf) - 1);
    const __m512i even = _mm512_and_si512(bits, mask);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, kHalf), mask);
    pair.even = _mm512_or_si512(pair.even, _mm512_slli_epi32(even, 4));
    pair.odd = _mm512_or_si512(pair.odd, _mm512_slli_epi32(odd, 4));
  }
  return pair;
}

template <BlockFormat kFormat>
QUIRE_WORDS __m512 number_of(__m512i q, const Terms& terms) {
  constexpr PanelLayout kLayout = layout_of(kFormat);
  if constexpr (kLayout.zero != 0) q = _mm512_sub_epi32(q, _mm512_set1_epi32(kLayout.zero));
  const __m512 product = _mm512_mul_ps(terms.scale, _mm512_cvtepi32_ps(q));
  if constexpr (kLayout.has_minimum) return _mm512_sub_ps(product, terms.minimum);
  return product;
}

/// No number of these formats is subnormal in f32 (all are multiples of 2^-24), so the conversion,
/// which takes subnormal ones for zero, rounds like to_bfloat16.
template <BlockFormat kFormat>
QUIRE_WORDS void widen(const std::byte* panel_block, uint32_t* words) {
  constexpr PanelLayout kLayout = layout_of(kFormat);
  // Elements of one column side by side: 0, 16, 1, 17, …
  const __m512i sides = _mm512_add_epi32(
      _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
      _mm512_slli_epi32(
          _mm512_set_epi32(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16), 16));
  for (int64_t r = 0; r < kLayout.num_runs; ++r) {
    for (int64_t column = 0; column < kColumns; column += kLanes) {
      const std::byte* factors = panel_block + column * 2;
      const std::byte* scales =
          panel_block + kLayout.factors_bytes() + r * kLayout.run_bytes() + column;
      // The words of Q8_0 have two bytes for each column, everything else has one.
      const std::byte* run = scales + column * (kLayout.low_bytes - 1);
      uint32_t* to = words + r * kRunWords * kColumns + column;
      for (int64_t half = 0; half < 2; ++half) {
        const Terms terms = terms_of<kFormat>(factors, scales, half);
        for (int64_t word = half * kRunWords / 2; word < (half + 1) * kRunWords / 2; ++word) {
          const Pair pair = pair_at<kFormat>(run, word);
          const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(
              number_of<kFormat>(pair.odd, terms), number_of<kFormat>(pair.even, terms)));
          _mm512_store_si512(to + word * kColumns, _mm512_permutexvar_epi16(sides, both));
        }
      }
    }
  }
}

}  // namespace

__attribute__((QUIRE_WORDS_TARGET)) void widen_panel_block(BlockFormat format,
                                                           const std::byte* panel_block,
                                                           uint32_t* words) {
  switch (format) {
    case BlockFormat::kQ8_0:
      return widen<BlockFormat::kQ8_0>(panel_block, words);
    case BlockFormat::kQ4_0:
      return widen<BlockFormat::kQ4_0>(panel_block, words);
    case BlockFormat::kQ4_K:
      return widen<BlockFormat::kQ4_K>(panel_block, words);
    case BlockFormat::kQ5_K:
      return widen<BlockFormat::kQ5_K>(panel_block, words);
    case BlockFormat::kQ6_K:
      return widen<BlockFormat::kQ6_K>(panel_block, words);
  }
}

#else

void widen_panel_block(BlockFormat, const std::byte*, uint32_t*) { QUIRE_CHECK(false); }

#endif

}  // namespace quire::cpu::block_words
