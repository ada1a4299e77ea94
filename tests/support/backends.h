#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace quire::test {

/// All backends that can run here. Throws if the reference or the cpu backend is not among them: a
/// test that skips what it should test passes for the wrong reason.
std::vector<std::string> kernel_backends();

/// Two threads: enough to show a race, and no crowd when tests run side by side.
std::unique_ptr<Backend> make_test_backend(const std::string& name);

}  // namespace quire::test
