#include "kernels/cpu/amx_panel.h"

#include <algorithm>

#include "kernels/cpu/amx.h"

// Two tiles of rows by two tiles of columns: four sums, and for every 64 bytes of k four loads,
// which take half as long as the four products.

namespace quire::cpu::amx_panel {
namespace {

using amx::kTileRows;
using panel_dot::kColumns;
using panel_dot::kWordsAtOnce;
using panel_dot::Product;

constexpr int64_t kWordBytes = sizeof(uint32_t);
constexpr int64_t kTileWords = amx::kTileRowBytes / kWordBytes;  // of k, and columns of a tile
constexpr int64_t kRowsAtOnce = 2 * kTileRows, kColumnsAtOnce = 2 * kTileWords;
constexpr int64_t kPanelRowBytes = kColumns * kWordBytes;

enum TileRegister { kSum00, kSum01, kSum10, kSum11, kLeft0, kLeft1, kRight0, kRight1 };

/// Rows [row, row + num_rows) by columns [column, column + num_columns) of a product, and words
/// [word, end_word) of k, a multiple of kTileWords or fewer than that.
struct Piece {
  int64_t row, num_rows, column, num_columns, word, end_word;

  int64_t rows(int tile) const {
    return std::clamp<int64_t>(num_rows - tile * kTileRows, 0, kTileRows);
  }
  int64_t columns(int tile) const {
    return std::clamp<int64_t>(num_columns - tile * kTileWords, 0, kTileWords);
  }
  int64_t words() const { return std::min(end_word - word, kTileWords); }
};

amx::TileShapes shapes_of(const Piece& piece) {
  amx::TileShapes shapes;
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      const bool exists = piece.rows(i) > 0 && piece.columns(j) > 0;
      if (exists) shapes.set(kSum00 + 2 * i + j, piece.rows(i), piece.columns(j) * kWordBytes);
    }
    if (piece.rows(i) > 0) shapes.set(kLeft0 + i, piece.rows(i), piece.words() * kWordBytes);
    if (piece.columns(i) > 0) shapes.set(kRight0 + i, piece.words(), piece.columns(i) * kWordBytes);
  }
  return shapes;
}

struct Bf16 {
  template <int kSum, int kLeft, int kRight>
  static void add() {
    amx::add_bf16<kSum, kLeft, kRight>();
  }
};

struct Int8 {
  template <int kSum, int kLeft, int kRight>
  static void add() {
    amx::add_s8_u8<kSum, kLeft, kRight>();
  }
};

template <class Dot, bool kTwoRows, bool kTwoColumns>
void add_words(const Product& p, const Piece& piece) {
  const std::byte* left = p.a + piece.row * p.a_stride_bytes + piece.word * kWordBytes;
  const uint32_t* right = p.panel + piece.word * kColumns + piece.column;
  for (int64_t word = piece.word; word < piece.end_word; word += kTileWords) {
    amx::load<kLeft0>(left, p.a_stride_bytes);
    amx::load<kRight0>(right, kPanelRowBytes);
    Dot::template add<kSum00, kLeft0, kRight0>();
    if constexpr (kTwoColumns) {
      amx::load<kRight1>(right + kTileWords, kPanelRowBytes);
      Dot::template add<kSum01, kLeft0, kRight1>();
    }
    if constexpr (kTwoRows) {
      amx::load<kLeft1>(left + kTileRows * p.a_stride_bytes, p.a_stride_bytes);
      Dot::template add<kSum10, kLeft1, kRight0>();
      if constexpr (kTwoColumns) Dot::template add<kSum11, kLeft1, kRight1>();
    }
    left += amx::kTileRowBytes;
    right += kTileWords * kColumns;
  }
}

/// `goes_on`: `out` holds the sums so far.
template <class Dot, bool kTwoRows, bool kTwoColumns>
void multiply_piece(const Product& p, const Piece& piece, bool goes_on) {
  const int64_t stride = p.out_stride * kWordBytes;
  float* out = p.out + piece.row * p.out_stride + piece.column;
  float* below = out + kTileRows * p.out_stride;
  if (goes_on) {
    amx::load<kSum00>(out, stride);
    if constexpr (kTwoColumns) amx::load<kSum01>(out + kTileWords, stride);
    if constexpr (kTwoRows) amx::load<kSum10>(below, stride);
    if constexpr (kTwoRows && kTwoColumns) amx::load<kSum11>(below + kTileWords, stride);
  } else {
    amx::zero<kSum00>();
    if constexpr (kTwoColumns) amx::zero<kSum01>();
    if constexpr (kTwoRows) amx::zero<kSum10>();
    if constexpr (kTwoRows && kTwoColumns) amx::zero<kSum11>();
  }
  add_words<Dot, kTwoRows, kTwoColumns>(p, piece);
  amx::store<kSum00>(out, stride);
  if constexpr (kTwoColumns) amx::store<kSum01>(out + kTileWords, stride);
  if constexpr (kTwoRows) amx::store<kSum10>(below, stride);
  if constexpr (kTwoRows && kTwoColumns) amx::store<kSum11>(below + kTileWords, stride);
}

template <class Dot>
void multiply(const Product& p) {
  amx::TileShapes shapes;
  const int64_t whole_words = p.num_words / kTileWords * kTileWords;
  for (int64_t word = 0; word < p.num_words;) {
    const int64_t end_word =
        word < whole_words ? std::min(word + kWordsAtOnce, whole_words) : p.num_words;
    const bool goes_on = p.adds || word > 0;
    for (int64_t row = 0; row < p.num_rows; row += kRowsAtOnce) {
      for (int64_t column = 0; column < p.num_columns; column += kColumnsAtOnce) {
        const Piece piece{row,    std::min(p.num_rows - row, kRowsAtOnce),
                          column, std::min(p.num_columns - column, kColumnsAtOnce),
                          word,   end_word};
        const amx::TileShapes wanted = shapes_of(piece);
        if (!(wanted == shapes)) amx::configure(shapes = wanted);
        const bool two_rows = piece.num_rows > kTileRows, two_columns = piece.columns(1) > 0;
        if (two_rows && two_columns) {
          multiply_piece<Dot, true, true>(p, piece, goes_on);
        } else if (two_rows) {
          multiply_piece<Dot, true, false>(p, piece, goes_on);
        } else if (two_columns) {
          multiply_piece<Dot, false, true>(p, piece, goes_on);
        } else {
          multiply_piece<Dot, false, false>(p, piece, goes_on);
        }
      }
    }
    word = end_word;
  }
  amx::release();
}

}  // namespace

void multiply_bf16(const Product& product) { multiply<Bf16>(product); }
void multiply_int8(const Product& product) { multiply<Int8>(product); }

}  // namespace quire::cpu::amx_panel
