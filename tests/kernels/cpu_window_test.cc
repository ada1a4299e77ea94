// Windows of full attention on every instruction path of the cpu backend: rows beside each other
// begin in different keys of a tile, which the other tests see on the best path alone.

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tests/kernels/attention_case.h"
#include "tests/support/backends.h"
#include "tests/support/compare.h"
#include "tests/support/instruction_paths.h"

namespace quire::test {
namespace {

TEST_CASE("cpu windows: right, and the same bits in any chunk, on every instruction path") {
  const auto shape = GENERATE(from_range(attention_shapes()));
  const auto path = GENERATE(from_range(instruction_paths()));
  constexpr int32_t kWindow = 70;
  CAPTURE(path.name, shape.block_size, shape.head_dim);
  const Sequence sequence = random_sequence(shape, 260, 51);
  const auto run = [&](const std::string& name, int64_t first, int64_t end) {
    const auto backend = make_test_backend(name);
    const HostileBatch batch(*backend, shape, {{&sequence, first, end}},
                             static_cast<uint32_t>(first));
    return run_full_attention(*backend, batch, shape, kWindow);
  };
  const auto expected = run("reference", 100, 260);
  const ForcedPath forced(path);
  const auto whole = run("cpu", 100, 260);
  CHECK(difference(whole, expected,
                   {.absolute = attention_tolerance(shape, {{&sequence, 0, 260}})}) == "");
  std::vector<float> chunked;
  for (int64_t first = 100, size = 1; first < 260; size = size % 23 + 2) {
    const int64_t end = std::min<int64_t>(first + size, 260);
    const auto part = run("cpu", first, end);
    chunked.insert(chunked.end(), part.begin(), part.end());
    first = end;
  }
  CHECK(difference(chunked, whole) == "");
}

}  // namespace
}  // namespace quire::test
