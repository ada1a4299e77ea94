#include "kernels/backend_registry.h"

#include <stdexcept>
#include <string>

namespace quire {

std::vector<BackendInfo> list_backends() { return {}; }

std::unique_ptr<Backend> make_backend(std::string_view spec, const BackendOptions&) {
  throw std::invalid_argument("unknown backend '" + std::string(spec) + "'");
}

}  // namespace quire
