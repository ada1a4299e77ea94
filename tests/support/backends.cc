#include "tests/support/backends.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "kernels/backend_registry.h"

namespace quire::test {
namespace {

std::vector<std::string> available_names() {
  std::vector<std::string> names;
  for (const BackendInfo& info : list_backends()) {
    if (info.available) names.push_back(info.spec);
  }
  return names;
}

}  // namespace

std::vector<std::string> kernel_backends() {
  const std::vector<std::string> available = available_names();
  if (const char* wanted = std::getenv("QUIRE_TEST_BACKENDS")) {
    std::vector<std::string> names;
    std::istringstream list(wanted);
    for (std::string name; std::getline(list, name, ',');) {
      QUIRE_CHECK(std::ranges::find(available, name) != available.end())
          << "QUIRE_TEST_BACKENDS: " << name << " cannot run here";
      names.push_back(name);
    }
    return names;
  }
  std::vector<std::string> names = available;
  for (const char* required : {"reference", "cpu"}) {
    QUIRE_CHECK(std::ranges::find(names, required) != names.end())
        << "the " << required << " backend is missing";
  }
  return names;
}

std::unique_ptr<Backend> make_test_backend(const std::string& name) {
  return make_backend(name, {.num_threads = 2});
}

bool is_emulated(const Backend& backend) {
  return backend.description().starts_with("emulated device");
}

}  // namespace quire::test
