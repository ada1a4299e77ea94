#!/usr/bin/env bash
# Builds what tests/gpu/run.sh runs and packs it with the libraries it needs into one folder, for a
# machine that has a GPU, the CUDA driver and cuBLAS, but none of the packages Quire is built with.
# tests/gpu/bundle.sh [FOLDER]; default: build/gpu-bundle.
set -euo pipefail
cd "$(dirname "$0")/../.."

bundle=${1:-build/gpu-bundle}
build=build/gpu
targets=(quire_kernels_tests quire_models_tests quire-bench)

mkdir -p build
# Tests look for their data below the folder they are started in.
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DQUIRE_WERROR=ON -DQUIRE_CUDA=ON \
  -DQUIRE_SERVER=OFF -DQUIRE_TEST_SOURCE_DIR=. -DQUIRE_BUNDLED_MODEL=models/quire-6m \
  ${QUIRE_CMAKE_ARGS:-} >"$build.log" 2>&1 || {
  cat "$build.log" >&2
  exit 1
}
cmake --build "$build" --target "${targets[@]}"

rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib" "$bundle/models" "$bundle/tests/gpu" "$bundle/tests/kernels" \
  "$bundle/tests/models"
cp "$build/tests/kernels/quire_kernels_tests" "$build/tests/models/quire_models_tests" \
  "$build/tests/bench/quire-bench" "$bundle/bin/"
cp -r models/quire-6m "$bundle/models/"
cp -r tests/kernels/data "$bundle/tests/kernels/"
cp tests/models/fp8.json "$bundle/tests/models/"
cp tests/gpu/run.sh tests/gpu/collect.py tests/gpu/peers.py "$bundle/tests/gpu/"
git rev-parse HEAD >"$bundle/commit"
git diff --quiet HEAD || echo "with uncommitted changes" >>"$bundle/commit"

# Everything but what every Linux with a C++ runtime has.
for program in "$bundle"/bin/*; do
  ldd "$program" | awk '$3 ~ /^\// {print $3}'
done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|ld-linux[^/]*)\.so' |
  xargs -r cp -L -t "$bundle/lib"
strip --strip-unneeded "$bundle"/bin/* "$bundle"/lib/* 2>/dev/null || true
du -sh "$bundle"
