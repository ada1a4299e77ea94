#include "engine/text/word_memory.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace quire {

size_t WordMemory::first_slot(std::string_view word) {
  return XXH3_64bits(word.data(), word.size()) % kNumSlots;
}

std::span<const TokenId> WordMemory::find(std::string_view word) const {
  const size_t first = first_slot(word);
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    const Slot& slot = slots_[(first + probe) % kNumSlots];
    const State state = slot.state.load(std::memory_order_acquire);
    if (state == State::kEmpty) return {};
    if (state == State::kReady && slot.num_bytes == word.size() &&
        std::memcmp(slot.bytes.data(), word.data(), word.size()) == 0) {
      return {slot.ids.data(), slot.num_ids};
    }
  }
  return {};
}

bool WordMemory::remember(std::string_view word, std::span<const TokenId> ids) {
  if (ids.empty() || ids.size() > kMaxWordIds) return false;
  const size_t first = first_slot(word);
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    Slot& slot = slots_[(first + probe) % kNumSlots];
    State expected = State::kEmpty;
    // Two threads may remember the same word in two places; either is right.
    if (!slot.state.compare_exchange_strong(expected, State::kBeingWritten,
                                            std::memory_order_relaxed)) {
      continue;
    }
    slot.num_bytes = static_cast<uint8_t>(word.size());
    slot.num_ids = static_cast<uint8_t>(ids.size());
    std::memcpy(slot.bytes.data(), word.data(), word.size());
    std::ranges::copy(ids, slot.ids.begin());
    slot.state.store(State::kReady, std::memory_order_release);
    num_words_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

std::shared_ptr<WordMemory> CurrentWordMemory::get() {
  const std::lock_guard lock(mutex_);
  if (!memory_ || memory_->is_full()) memory_ = std::make_shared<WordMemory>();
  return memory_;
}

}  // namespace quire
