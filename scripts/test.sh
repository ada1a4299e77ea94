#!/usr/bin/env bash
# All set-up and all tests, from a fresh machine: packages, build with warnings as errors, source
# checks, unit, simulation and integration tests. scripts/test.sh [PRESET]; default: release.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
scripts/install_packages.sh
scripts/python_env.sh
QUIRE_CMAKE_ARGS="-DQUIRE_PYTHON=$PWD/build/venv/bin/python" scripts/build.sh "$preset"
cmake --build "build/$preset" --target format-check check-layering check-headers
if grep -q 'CUDA targets: built' "build/$preset/configure.log"; then
  cmake --build "build/$preset" --target check-cuda-resources
fi
ctest --preset "$preset" --parallel "$(nproc)"
