#pragma once

#include <array>
#include <cstdint>

namespace quire {

/// How many prompt tokens fit into a step that others wait for. What a token costs is learned from
/// the steps that have run, everything in them included, so the answer settles where such a step
/// takes `max_seconds`, whatever model, machine and company it has. Kept apart by depth (powers of
/// two of tokens before the chunk), for attention makes deep tokens dearer. No clock: the same
/// observations give the same answers. One thread.
class StepPacer {
 public:
  /// 0 seconds: no limit.
  explicit StepPacer(double max_seconds) : max_seconds_(max_seconds) {}

  /// At least kMinTokens, so that prompts get on beside any number of decodes. `depth`: tokens
  /// before the deepest chunk.
  int32_t max_prefill_tokens(int32_t depth) const;

  /// A step with this many prompt tokens took so long. Dearer than thought is believed at once,
  /// cheaper in small steps: a chunk too large is felt by everybody, one too small by its owner.
  void observe(int32_t depth, int32_t num_prefill_tokens, double seconds);

  static constexpr int32_t kMinTokens = 16;
  static constexpr int32_t kFirstTokens = 64;  // before anything is known
  static constexpr double kTrustInCheaper = 0.25;

 private:
  static constexpr int kNumDepths = 32;

  static int index_of(int32_t depth);
  double expected_cost(int index) const;

  double max_seconds_;
  std::array<double, kNumDepths> seconds_per_token_{};  // 0: not seen yet
};

}  // namespace quire
