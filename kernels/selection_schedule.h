#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace quire {

/// From position `from` on, MoBA selects units of `group` consecutive blocks instead of single
/// ones.
struct SelectionStage {
  int32_t from = 0;   // tokens
  int32_t group = 1;  // blocks of a unit, a power of two
  int32_t top_k = 0;  // at most so many units per (token, head); 0: as many as the sequence's top_k

  friend bool operator==(const SelectionStage&, const SelectionStage&) = default;
};

/// Progressive block size: the later a token, the larger the units that it chooses from, so that
/// the number of scores per token stays bounded while contexts grow. Stages ascend in `from`; a
/// token uses the last one with from <= position, and none (units of one block) before the first.
/// Since that depends on the token's position alone, a stage is MoBA with a larger block, and
/// chunks, batches and prefix hits change nothing.
struct SelectionSchedule {
  static constexpr int32_t kMaxStages = 8;
  static constexpr int32_t kMaxGroup = 1024;

  /// What one token selects by.
  struct Rule {
    int32_t stage = -1;  // index into stages; -1: single blocks
    int32_t group = 1;   // blocks of a unit
    int32_t top_k = 1;   // units, the token's own included
  };

  std::array<SelectionStage, kMaxStages> stages{};
  int32_t num_stages = 0;

  /// `top_k` is the sequence's.
  Rule rule_at(int64_t position, int32_t top_k) const {
    for (int32_t s = num_stages - 1; s >= 0; --s) {
      const SelectionStage& stage = stages[static_cast<size_t>(s)];
      if (stage.from > position) continue;
      return {s, stage.group, stage.top_k > 0 ? std::min(stage.top_k, top_k) : top_k};
    }
    return {.top_k = top_k};
  }

  /// The first position behind `position` that has another rule, or INT64_MAX.
  int64_t end_of_rule(int64_t position) const {
    for (int32_t s = 0; s < num_stages; ++s) {
      const int64_t from = stages[static_cast<size_t>(s)].from;
      if (from > position) return from;
    }
    return INT64_MAX;
  }

  /// The most blocks that a token at one of positions [0, end) may select.
  int64_t max_selected(int32_t top_k, int64_t end) const {
    int64_t most = top_k;
    for (int32_t s = 0; s < num_stages; ++s) {
      const int64_t from = stages[static_cast<size_t>(s)].from;
      if (from >= end) break;
      const Rule rule = rule_at(from, top_k);
      most = std::max(most, int64_t{rule.top_k} * rule.group);
    }
    return most;
  }

  friend bool operator==(const SelectionSchedule&, const SelectionSchedule&) = default;
};

}  // namespace quire
