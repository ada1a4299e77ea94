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
  /// Of a step that somebody waits for; 0 seconds: no limit, alone or not.
  explicit StepPacer(double max_seconds) : max_seconds_(max_seconds) {}

  enum class Company { kAwaited, kAlone };

  /// At least kMinTokens, so that prompts get on beside any number of decodes. `depth`: tokens
  /// before the deepest chunk. Alone, a step may take kAloneFactor times as long: large steps are
  /// cheaper, but who comes meanwhile waits for the whole of it.
  int32_t max_prefill_tokens(int32_t depth, Company company = Company::kAwaited) const;

  /// A step with this many prompt tokens took so long. Dearer than thought is believed at once,
  /// cheaper in small steps: a chunk too large is felt by everybody, one too small by its owner.
  void observe(int32_t depth, int32_t num_prefill_tokens, double seconds);

  static constexpr int32_t kMinTokens = 16;
  static constexpr int32_t kFirstTokens = 64;  // before anything is known; alone kAloneFactor times
  static constexpr int32_t kAloneFactor = 10;
  static constexpr double kTrustInCheaper = 0.25;

 private:
  static constexpr int32_t kShallow = 1024;  // attention costs little before that
  static constexpr int kNumDepths = 32;

  static int index_of(int32_t depth);
  double expected_cost(int index) const;

  double max_seconds_;
  std::array<double, kNumDepths> seconds_per_token_{};  // 0: not seen yet
};

}  // namespace quire
