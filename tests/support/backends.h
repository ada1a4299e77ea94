#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace quire::test {

/// The backends that QUIRE_TEST_BACKENDS names, separated by commas; without it, all that can run
/// here. Throws if a named one cannot, or if the reference or the cpu backend is missing: a test
/// that skips what it should test passes for the wrong reason.
std::vector<std::string> kernel_backends();

/// Two threads: enough to show a race, and no crowd when tests run side by side.
std::unique_ptr<Backend> make_test_backend(const std::string& name);

/// Whether the backend's device is tests/cuda_emulator, where a test leaves out sizes, not kinds:
/// all of them would take minutes.
bool is_emulated(const Backend& backend);

}  // namespace quire::test
