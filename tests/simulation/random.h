#pragma once

#include <cstdint>

namespace quire {

/// Spreads two words over one (splitmix64's finaliser).
constexpr uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// The same numbers on every platform, which the standard's distributions do not promise.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(mix(seed, 1)) {}

  uint64_t next() { return mix(state_++, 0); }
  /// In [low, high].
  int32_t between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(next() % (static_cast<uint64_t>(high - low) + 1));
  }
  bool chance(double probability) {
    return static_cast<double>(next() >> 11) * 0x1p-53 < probability;
  }
  template <class T, class... Rest>
  T pick(T first, Rest... rest) {
    const T choices[] = {first, static_cast<T>(rest)...};
    return choices[next() % (sizeof...(rest) + 1)];
  }

 private:
  uint64_t state_;
};

}  // namespace quire
