#!/usr/bin/env bash
# Configures and builds a CMake preset: scripts/build.sh [PRESET [TARGET …]]; default: release.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
mkdir -p "build/$preset"
log="build/$preset/configure.log"
cmake --preset "$preset" ${QUIRE_CMAKE_ARGS:-} >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
grep -h 'CUDA targets' "$log" | sed 's/^-- //' || true
if [ "$#" -gt 0 ]; then
  cmake --build "build/$preset" --target "$@"
else
  cmake --build "build/$preset"
fi
