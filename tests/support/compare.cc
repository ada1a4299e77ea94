#include "tests/support/compare.h"

#include <bit>
#include <cmath>
#include <sstream>

namespace quire::test {
namespace {

std::string size_mismatch(size_t actual, size_t expected) {
  return "actual has " + std::to_string(actual) + " elements, expected " + std::to_string(expected);
}

template <class T>
std::string report(size_t index, size_t size, T actual, T expected, const std::string& why) {
  std::ostringstream text;
  text.precision(9);
  text << "element " << index << " of " << size << ": actual " << actual << ", expected "
       << expected << why;
  return text.str();
}

/// NaN or infinite, and not in the same way.
bool differs_in_kind(float actual, float expected) {
  if (std::isnan(actual) || std::isnan(expected))
    return !(std::isnan(actual) && std::isnan(expected));
  if (std::isinf(actual) || std::isinf(expected)) return actual != expected;
  return false;
}

}  // namespace

std::string difference(std::span<const float> actual, std::span<const float> expected,
                       const Tolerance& tolerance) {
  if (actual.size() != expected.size()) return size_mismatch(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (differs_in_kind(actual[i], expected[i])) {
      return report(i, actual.size(), actual[i], expected[i], " (NaN or infinity)");
    }
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(expected[i])) continue;
    const double want = expected[i];
    double allowed = tolerance.absolute + tolerance.relative * std::abs(want);
    if (tolerance.at) allowed += tolerance.at(i);
    const double error = std::abs(static_cast<double>(actual[i]) - want);
    if (!(error <= allowed)) {
      std::ostringstream why;
      why << ", error " << error << " > tolerance " << allowed;
      return report(i, actual.size(), actual[i], expected[i], why.str());
    }
  }
  return "";
}

std::string difference(std::span<const float> actual, std::span<const float> expected) {
  if (actual.size() != expected.size()) return size_mismatch(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(actual[i]) && std::isnan(expected[i])) continue;
    if (std::bit_cast<uint32_t>(actual[i]) != std::bit_cast<uint32_t>(expected[i])) {
      return report(i, actual.size(), actual[i], expected[i], " (bits)");
    }
  }
  return "";
}

std::string difference(std::span<const BFloat16> actual, std::span<const BFloat16> expected) {
  return difference(widen(actual), widen(expected));
}

std::string difference(std::span<const int32_t> actual, std::span<const int32_t> expected) {
  if (actual.size() != expected.size()) return size_mismatch(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] != expected[i]) return report(i, actual.size(), actual[i], expected[i], "");
  }
  return "";
}

std::vector<float> widen(std::span<const BFloat16> values) {
  std::vector<float> wide;
  wide.reserve(values.size());
  for (const BFloat16 value : values) wide.push_back(to_float(value));
  return wide;
}

std::vector<BFloat16> narrow(std::span<const float> values) {
  std::vector<BFloat16> narrowed;
  narrowed.reserve(values.size());
  for (const float value : values) narrowed.push_back(to_bfloat16(value));
  return narrowed;
}

}  // namespace quire::test
