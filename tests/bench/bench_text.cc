#include "tests/bench/bench_text.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace quire::bench {

std::string bench_text(const char* variable, const char* otherwise, size_t num_bytes) {
  const char* named = std::getenv(variable);
  std::ifstream file(named != nullptr ? named : otherwise);
  const std::string once{std::istreambuf_iterator<char>(file), {}};
  std::string text;
  for (int round = 0; !once.empty() && text.size() < num_bytes; ++round) {
    text += std::to_string(round) + ' ' + once;
  }
  text.resize(std::min(text.size(), num_bytes));
  return text;
}

}  // namespace quire::bench
