#include "kernels/cpu/panel_dot.h"

#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_panel.h"
#include "kernels/cpu/x86_intrinsics.h"

namespace quire::cpu::panel_dot {
namespace {
bool is_wanted = true;
}  // namespace

void use(bool wanted) { is_wanted = wanted; }

#if defined(__x86_64__)

#define QUIRE_DOT_TARGET target("avx512f,avx512bw,avx512vl,avx512bf16,avx512vnni")
#define QUIRE_DOT __attribute__((QUIRE_DOT_TARGET, always_inline)) inline

namespace {

constexpr int kLanes = 16;
constexpr int kRowsAtOnce = 6;  // times four accumulators: most of the 32 registers

// In assembler, because GCC 12 copies the accumulators of these intrinsics from register to
// register, runs out of registers and halves the speed.
struct Bf16Dot {
  QUIRE_DOT static __m512i add(__m512i sum, __m512i panel, __m512i a) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(panel), "v"(a));
    return sum;
  }
};

struct Int8Dot {
  QUIRE_DOT static __m512i add(__m512i sum, __m512i panel, __m512i a) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(panel), "v"(a));
    return sum;
  }
};

/// One word of k in all columns of the panel.
struct Columns {
  __m512i v0, v1, v2, v3;
};

/// Which of the columns exist.
struct Masks {
  __mmask16 v0, v1, v2, v3;
};

QUIRE_DOT Masks masks_of(int64_t num_columns) {
  const uint64_t bits = num_columns >= kColumns ? ~uint64_t{0} : (uint64_t{1} << num_columns) - 1;
  return {static_cast<__mmask16>(bits), static_cast<__mmask16>(bits >> 16),
          static_cast<__mmask16>(bits >> 32), static_cast<__mmask16>(bits >> 48)};
}

/// The accumulators of kRows rows. Members rather than an array: GCC keeps an array that a loop
/// indexes in memory, and stores it in every round.
template <class Dot, int kRows>
struct Sums {
  __m512i v0, v1, v2, v3;
  Sums<Dot, kRows - 1> others;

  QUIRE_DOT void load(const float* out, int64_t stride, const Masks& m) {
    v0 = _mm512_maskz_loadu_epi32(m.v0, out);
    v1 = _mm512_maskz_loadu_epi32(m.v1, out + kLanes);
    v2 = _mm512_maskz_loadu_epi32(m.v2, out + 2 * kLanes);
    v3 = _mm512_maskz_loadu_epi32(m.v3, out + 3 * kLanes);
    others.load(out + stride, stride, m);
  }
  QUIRE_DOT void add(const std::byte* a, int64_t stride_bytes, const Columns& b) {
    int word;
    std::memcpy(&word, a, sizeof(word));
    const __m512i x = _mm512_set1_epi32(word);
    v0 = Dot::add(v0, b.v0, x);
    v1 = Dot::add(v1, b.v1, x);
    v2 = Dot::add(v2, b.v2, x);
    v3 = Dot::add(v3, b.v3, x);
    others.add(a + stride_bytes, stride_bytes, b);
  }
  QUIRE_DOT void store(float* out, int64_t stride, const Masks& m) const {
    _mm512_mask_storeu_epi32(out, m.v0, v0);
    _mm512_mask_storeu_epi32(out + kLanes, m.v1, v1);
    _mm512_mask_storeu_epi32(out + 2 * kLanes, m.v2, v2);
    _mm512_mask_storeu_epi32(out + 3 * kLanes, m.v3, v3);
    others.store(out + stride, stride, m);
  }
};

template <class Dot>
struct Sums<Dot, 0> {
  QUIRE_DOT void load(const float*, int64_t, const Masks&) {}
  QUIRE_DOT void add(const std::byte*, int64_t, const Columns&) {}
  QUIRE_DOT void store(float*, int64_t, const Masks&) const {}
};

/// Words [word, end_word) of k, of a panel and of rows from first_row on.
struct Piece {
  int64_t first_row, word, end_word;
};

/// Adds a piece to kRows rows of `out`, which hold the sums of the words before it.
template <class Dot, int kRows>
QUIRE_DOT void add_rows(const Product& p, const Piece& piece) {
  const Masks masks = masks_of(p.num_columns);
  float* out = p.out + piece.first_row * p.out_stride;
  Sums<Dot, kRows> sums;
  sums.load(out, p.out_stride, piece.word == 0 && !p.adds ? Masks{} : masks);
  const std::byte* a = p.a + piece.first_row * p.a_stride_bytes;
  for (int64_t word = piece.word; word < piece.end_word; ++word) {
    const uint32_t* at = p.panel + word * kColumns;
    const Columns b{_mm512_load_si512(at), _mm512_load_si512(at + kLanes),
                    _mm512_load_si512(at + 2 * kLanes), _mm512_load_si512(at + 3 * kLanes)};
    sums.add(a + word * int64_t{sizeof(uint32_t)}, p.a_stride_bytes, b);
  }
  sums.store(out, p.out_stride, masks);
}

template <class Dot>
QUIRE_DOT void add_tile(const Product& p, const Piece& piece) {
  switch (p.num_rows - piece.first_row) {
    case 1:
      return add_rows<Dot, 1>(p, piece);
    case 2:
      return add_rows<Dot, 2>(p, piece);
    case 3:
      return add_rows<Dot, 3>(p, piece);
    case 4:
      return add_rows<Dot, 4>(p, piece);
    case 5:
      return add_rows<Dot, 5>(p, piece);
    default:
      return add_rows<Dot, kRowsAtOnce>(p, piece);
  }
}

template <class Dot>
QUIRE_DOT void multiply(const Product& p) {
  for (int64_t word = 0; word < p.num_words; word += kWordsAtOnce) {
    const int64_t end_word = std::min(word + kWordsAtOnce, p.num_words);
    for (int64_t row = 0; row < p.num_rows; row += kRowsAtOnce) {
      add_tile<Dot>(p, {row, word, end_word});
    }
  }
}

}  // namespace

bool has_bf16() { return is_wanted && __builtin_cpu_supports("avx512bf16") != 0; }
bool has_int8() { return is_wanted && __builtin_cpu_supports("avx512vnni") != 0; }

__attribute__((QUIRE_DOT_TARGET)) void multiply_bf16(const Product& product) {
  if (amx::is_available()) return amx_panel::multiply_bf16(product);
  multiply<Bf16Dot>(product);
}

__attribute__((QUIRE_DOT_TARGET)) void multiply_int8(const Product& product,
                                                     const Int8Terms& terms) {
  if (amx::is_available()) {
    amx_panel::multiply_int8(product);
  } else {
    multiply<Int8Dot>(product);
  }
  for (int64_t row = 0; row < product.num_rows; ++row) {
    // Sums wrap around on the way; what is left fits (kMaxInt8Columns).
    const uint32_t excess = 128u * static_cast<uint32_t>(terms.row_sums[row]);
    const __m512i excesses = _mm512_set1_epi32(static_cast<int>(excess));
    const __m512 row_scale = _mm512_set1_ps(terms.row_scales[row]);
    for (int64_t column = 0; column < product.num_columns; column += kLanes) {
      const int64_t count = std::min<int64_t>(product.num_columns - column, kLanes);
      const auto mask = static_cast<__mmask16>((1u << count) - 1);
      float* to = product.out + row * product.out_stride + column;
      const __m512i sum = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(mask, to), excesses);
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), row_scale);
      const __m512 scales = _mm512_maskz_loadu_ps(mask, terms.column_scales + column);
      _mm512_mask_storeu_ps(to, mask, _mm512_mul_ps(scaled, scales));
    }
  }
}

#else

bool has_bf16() { return false; }
bool has_int8() { return false; }
void multiply_bf16(const Product&) { QUIRE_CHECK(false); }
void multiply_int8(const Product&, const Int8Terms&) { QUIRE_CHECK(false); }

#endif

}  // namespace quire::cpu::panel_dot
