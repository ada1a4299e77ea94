#!/usr/bin/env bash
# All set-up and all tests, from a fresh machine: packages, build with warnings as errors, source
# checks, unit, simulation and integration tests. scripts/test.sh [PRESET]; default: release.
#
# scripts/test.sh parity: a build, an environment with PyTorch, transformers, tokenizers and jinja2 (6 GB),
# and live comparisons with them (tests/parity), with models that nobody has seen before.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
scripts/install_packages.sh
if [ "$preset" = parity ]; then
  scripts/python_env.sh parity-venv tests/parity/requirements.txt
  scripts/build.sh release
  QUIRE_SERVER=$PWD/build/release/server/quire QUIRE_SOURCE_DIR=$PWD QUIRE_BUILD_DIR=$PWD/build/release \
    exec build/parity-venv/bin/python -m pytest -p no:cacheprovider tests/parity
fi
scripts/python_env.sh
QUIRE_CMAKE_ARGS="-DQUIRE_PYTHON=$PWD/build/venv/bin/python" scripts/build.sh "$preset"
cmake --build "build/$preset" --target format-check check-layering check-headers
if grep -q 'CUDA targets: built' "build/$preset/configure.log"; then
  cmake --build "build/$preset" --target check-cuda-resources
fi
ctest --preset "$preset" --parallel "$(nproc)"
