#!/bin/sh
# Builds peer_depth beside the other programs of a peer's static build.
#   build_peer_depth.sh SOURCE BUILD [-DPEER_IK]
# SOURCE: the peer's source tree; BUILD: its build folder (BUILD_SHARED_LIBS=OFF); the last
# argument says that the peer is ik_llama.cpp.
set -eu
source=$1
build=$2
shift 2
libraries=$(find "$build/src" "$build/ggml" -name '*.a')
${CXX:-g++} -std=c++17 -O2 "$@" -I "$source/include" -I "$source/ggml/include" \
  "$(dirname "$0")/peer_depth.cc" -o "$build/bin/peer_depth" \
  -Wl,--start-group $libraries -Wl,--end-group -fopenmp -pthread -ldl
