#include "tests/support/backends.h"

#include <algorithm>

#include "kernels/backend_registry.h"

namespace quire::test {

std::vector<std::string> kernel_backends() {
  std::vector<std::string> names;
  for (const BackendInfo& info : list_backends()) {
    if (info.available) names.push_back(info.spec);
  }
  for (const char* required : {"reference", "cpu"}) {
    QUIRE_CHECK(std::ranges::find(names, required) != names.end())
        << "the " << required << " backend is missing";
  }
  return names;
}

std::unique_ptr<Backend> make_test_backend(const std::string& name) {
  return make_backend(name, {.num_threads = 2});
}

}  // namespace quire::test
