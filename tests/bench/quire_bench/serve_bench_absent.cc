#include <stdexcept>

#include "tests/bench/quire_bench/serve_bench.h"

namespace quire::bench {

std::vector<ServeMeasurement> run_serve(const ServeOptions&) {
  throw std::runtime_error("serve: built with QUIRE_SERVER=OFF, without the HTTP library");
}

}  // namespace quire::bench
