#include "kernels/backend_registry.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <stdexcept>

#include "tests/support/backends.h"
#include "tests/support/device_tensor.h"

// Under AddressSanitizer an impossible allocation would end the process instead of failing.
#if defined(__SANITIZE_ADDRESS__)
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
#endif

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("backend_registry: the reference and the cpu backend are there, and say who they are") {
  for (const std::string& name : kernel_backends()) {
    CAPTURE(name);
    const auto backend = make_test_backend(name);
    CHECK(backend->name() == name);
    CHECK_FALSE(backend->description().empty());
  }
}

TEST_CASE("backend_registry: auto is the first available one, never the reference") {
  const auto infos = list_backends();
  const auto first = std::ranges::find_if(infos, &BackendInfo::available);
  REQUIRE(first != infos.end());
  CHECK(make_backend("auto")->name() == first->spec);
  CHECK(first->spec != "reference");
}

TEST_CASE("backend_registry: an unknown name is refused with the known ones") {
  for (const char* name : {"tpu", "", "CPU", "cuda:1000"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(make_backend(name), std::invalid_argument);
    CHECK_THROWS_WITH(make_backend(name), Contains("unknown") && Contains("auto") &&
                                              Contains("cpu") && Contains("reference") &&
                                              Contains("cuda:0"));
  }
}

TEST_CASE("backend_registry: an absent backend is refused with the reason") {
  for (const BackendInfo& info : list_backends()) {
    CAPTURE(info.spec);
    CHECK_FALSE(info.detail.empty());
    if (info.available) continue;
    CHECK_THROWS_AS(make_backend(info.spec), std::invalid_argument);
    CHECK_THROWS_WITH(make_backend(info.spec), Contains(info.spec) && Contains(info.detail));
  }
}

TEST_CASE("backend: memory starts as zeros, is aligned, and holds what was uploaded") {
  const auto name = GENERATE(from_range(kernel_backends()));
  const size_t size = GENERATE(size_t{1}, size_t{4096}, (size_t{3} << 20) + 5);
  CAPTURE(name, size);
  const auto backend = make_test_backend(name);
  const auto buffer = backend->allocate(size);
  REQUIRE(buffer->size_bytes() >= size);
  CHECK(reinterpret_cast<uintptr_t>(buffer->data()) % 64 == 0);
  std::vector<std::byte> host(size, std::byte{1});
  backend->download(buffer->data(), host);
  CHECK(host == std::vector<std::byte>(size, std::byte{0}));
  for (size_t i = 0; i < size; ++i) host[i] = static_cast<std::byte>(i * 7);
  backend->upload(host, buffer->data());
  std::vector<std::byte> back(size);
  backend->download(buffer->data(), back);
  CHECK(back == host);
}

TEST_CASE("backend: memory that cannot be had is a DeviceError") {
  const auto name = GENERATE(from_range(kernel_backends()));
  CAPTURE(name);
  CHECK_THROWS_AS(make_test_backend(name)->allocate(size_t{1} << 60), DeviceError);
}

}  // namespace
}  // namespace quire::test
