#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

#include "engine/core/ids.h"

namespace quire {

/// Short words and their token ids, shared by all threads that encode: a text's distinct words are
/// few, and encoding one costs a hundred times as much as finding it here. A fixed table of
/// kNumSlots cache lines (4 MiB); words that do not fit a line, or find no place, are not
/// remembered. Words are compared byte by byte: a hash finds, it never proves. Thread-safe without
/// locks; a word that is there stays there.
class WordMemory {
 public:
  static constexpr size_t kMaxWordBytes = 24;
  static constexpr size_t kMaxWordIds = 8;
  static constexpr size_t kNumSlots = 1 << 16;

  WordMemory() : slots_(std::make_unique<Slot[]>(kNumSlots)) {}

  /// Empty if unknown. Valid as long as the memory. REQUIRES: 1 <= word.size() <= kMaxWordBytes.
  std::span<const TokenId> find(std::string_view word) const;

  /// False where there is no room. REQUIRES: as for find.
  bool remember(std::string_view word, std::span<const TokenId> ids);

  /// Few places are left: what comes now will mostly not be remembered.
  bool is_full() const { return num_words_.load(std::memory_order_relaxed) > kNumSlots * 3 / 4; }

 private:
  static constexpr size_t kMaxProbes = 8;

  enum class State : uint8_t { kEmpty, kBeingWritten, kReady };
  struct alignas(64) Slot {
    std::atomic<State> state{State::kEmpty};  // the rest is read only once it is kReady
    uint8_t num_bytes = 0;
    uint8_t num_ids = 0;
    std::array<char, kMaxWordBytes> bytes{};
    std::array<TokenId, kMaxWordIds> ids{};
  };

  static size_t first_slot(std::string_view word);

  std::unique_ptr<Slot[]> slots_;
  std::atomic<size_t> num_words_{0};
};

/// The memory of a tokenizer's texts. Thread-safe.
class CurrentWordMemory {
 public:
  /// The memory that a call works with, and keeps as long as it takes. One that is full makes room
  /// for a new one, so that no odd text fills it for good.
  std::shared_ptr<WordMemory> get();

 private:
  std::mutex mutex_;                    // of the pointer alone
  std::shared_ptr<WordMemory> memory_;  // null until the first text
};

}  // namespace quire
