#include "kernels/buffer.h"

#include <catch2/catch.hpp>

#include "tests/support/backends.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("workspace: aligned, disjoint pieces, mark and rewind, the peak is kept") {
  const auto backend = make_test_backend("reference");
  Workspace workspace(backend->allocate(1024));
  const TensorView a = workspace.take<BFloat16>({3, 5});
  const TensorView b = workspace.take<float>({1});
  CHECK(a.dtype == DType::kBF16);
  CHECK(a.shape[0] == 3);
  CHECK(a.is_contiguous());
  CHECK(reinterpret_cast<uintptr_t>(b.data) % 64 == 0);
  CHECK(static_cast<char*>(b.data) - static_cast<char*>(a.data) == 64);
  CHECK(workspace.mark() == 128);

  const size_t mark = workspace.mark();
  const TensorView c = workspace.take<double>({16});
  workspace.rewind(mark);
  CHECK(workspace.take<double>({1}).data == c.data);
  CHECK(workspace.peak_bytes() == 256);
  workspace.reset();
  CHECK(workspace.take<float>({1}).data == a.data);
  CHECK(workspace.peak_bytes() == 256);
}

TEST_CASE("workspace: full to the last byte, then refused with the numbers") {
  const auto backend = make_test_backend("reference");
  const auto buffer_bytes = Workspace::padded(100) + Workspace::padded(64);
  CHECK(buffer_bytes == 192);
  Workspace workspace(backend->allocate(buffer_bytes));
  const size_t capacity = workspace.capacity_bytes();
  REQUIRE(capacity >= buffer_bytes);
  CHECK_NOTHROW(workspace.take<float>({static_cast<int64_t>(capacity / 64 * 16)}));
  CHECK_NOTHROW(workspace.take<float>({0}));
  CHECK_THROWS_AS(workspace.take<float>({1}), ContractError);
  CHECK_THROWS_WITH(workspace.take<float>({1}),
                    Contains("64") && Contains(std::to_string(capacity)));
}

TEST_CASE("workspace: without a buffer it gives nothing") {
  Workspace workspace(nullptr);
  CHECK(workspace.capacity_bytes() == 0);
  CHECK_THROWS_AS(workspace.take<float>({1}), ContractError);
}

}  // namespace
}  // namespace quire::test
