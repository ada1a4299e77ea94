#pragma once

#include <cstdint>

#include "kernels/check.h"

// AMX: matrix products of tiles of up to 16 rows of 64 bytes, in registers of their own. A row of a
// result depends on that row of the left tile only, and its sums have one order: of bf16, those of
// 32 products in two chains (even and odd k), added to each other and then to the result; of int8,
// exact ones.

namespace quire::cpu::amx {

/// Whether this CPU has the instructions, the system lets this process use them, and no test has
/// switched them off. Asks the system on the first call; any thread.
bool is_available();
/// Makes this process do without them, or with them again if it can. For tests; returns whether
/// they are in use now.
bool use(bool wanted);

inline constexpr int64_t kTileRows = 16, kTileRowBytes = 64;

/// Shapes of the eight tile registers of a thread. What a tile held is lost where they change.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t num_rows, int64_t num_row_bytes) {
    rows[tile] = static_cast<uint8_t>(num_rows);
    row_bytes[tile] = static_cast<uint16_t>(num_row_bytes);
  }
  bool operator==(const TileShapes&) const = default;
};
static_assert(sizeof(TileShapes) == 64);

#if defined(__x86_64__)

// In assembler, because GCC 12's intrinsics do not tell the compiler that they read memory.

inline void configure(const TileShapes& shapes) {
  asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}

/// Gives the tiles back; a thread that holds them makes every switch to another one slower.
inline void release() { asm volatile("tilerelease"); }

template <int kTile>
inline void zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

template <int kTile>
inline void load(const void* from, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
               :
               : "r"(from), "r"(stride_bytes), "i"(kTile)
               : "memory");
}

template <int kTile>
inline void store(void* to, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
               :
               : "r"(to), "r"(stride_bytes), "i"(kTile)
               : "memory");
}

/// sum [m, n] f32 += left [m, 2k] bf16 * right [k, n, 2] bf16
template <int kSum, int kLeft, int kRight>
inline void add_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}

/// sum [m, n] i32 += left [m, 4k] s8 * right [k, n, 4] u8
template <int kSum, int kLeft, int kRight>
inline void add_s8_u8() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
}

#else

inline void configure(const TileShapes&) { QUIRE_CHECK(false); }
inline void release() {}
template <int>
void zero() {}
template <int>
void load(const void*, int64_t) {}
template <int>
void store(void*, int64_t) {}
template <int, int, int>
void add_bf16() {}
template <int, int, int>
void add_s8_u8() {}

#endif

}  // namespace quire::cpu::amx
