#pragma once

// The part of the CUDA runtime that kernels/cuda uses, on the emulated device: "device" memory is
// host memory, a stream is always done.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "tests/cuda_emulator/emulator.h"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorGraphExecUpdateFailure = 910
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocMapped = 2;

using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;
struct cudaDeviceProp {
  char name[256];
};

/// As the runtime does, every failure is remembered until somebody asks for it.
inline thread_local cudaError_t emulated_last_error = cudaSuccess;
inline cudaError_t emulated_failure(cudaError_t error) { return emulated_last_error = error; }

#define EMULATED_CALL(name) \
  if (quire::emulator::must_fail(name)) return emulated_failure(cudaErrorLaunchFailure)

#define EMULATED_NOT_IN_CAPTURE() \
  if (quire::emulator::is_capturing()) return emulated_failure(cudaErrorStreamCaptureUnsupported)

inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorGraphExecUpdateFailure:
      return "the graph update was not performed";
  }
  return "?";
}
inline cudaError_t cudaGetLastError() {
  if (quire::emulator::must_fail("launch")) return cudaErrorLaunchFailure;
  return std::exchange(emulated_last_error, cudaSuccess);
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulated device");
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount      ? 4
           : attribute == cudaDevAttrComputeCapabilityMajor ? 8
                                                            : 0;
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = size_t{3} << 30;
  *total_bytes = size_t{4} << 30;
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** data, size_t bytes) {
  EMULATED_CALL("cudaMalloc");
  EMULATED_NOT_IN_CAPTURE();
  *data = bytes > (size_t{4} << 30) ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *data == nullptr ? emulated_failure(cudaErrorMemoryAllocation) : cudaSuccess;
}
inline cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}
inline cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  return cudaMalloc(data, bytes);
}
inline cudaError_t cudaFreeHost(void* data) { return cudaFree(data); }
inline cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  EMULATED_CALL("cudaMemsetAsync");
  quire::emulator::enqueue("memset", [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  EMULATED_CALL("cudaMemcpyAsync");
  quire::emulator::enqueue("memcpy", [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                                     size_t width, size_t height, cudaMemcpyKind, cudaStream_t) {
  quire::emulator::enqueue("memcpy2D", [=] {
    for (size_t row = 0; row < height; ++row) {
      std::memcpy(static_cast<char*>(to) + row * to_pitch,
                  static_cast<const char*>(from) + row * from_pitch, width);
    }
  });
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  EMULATED_CALL("cudaStreamSynchronize");
  EMULATED_NOT_IN_CAPTURE();
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
  EMULATED_NOT_IN_CAPTURE();
  return cudaSuccess;
}

// Graphs: what is enqueued while a stream captures becomes a node, with its arguments as they are.

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
using cudaGraph_t = quire::emulator::Graph*;
using cudaGraphExec_t = quire::emulator::Graph*;
using cudaGraphNode_t = struct EmulatedNode*;
struct cudaGraphExecUpdateResultInfo {
  int result;
};

inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  EMULATED_CALL("cudaStreamBeginCapture");
  EMULATED_NOT_IN_CAPTURE();
  quire::emulator::begin_capture();
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = quire::emulator::end_capture();
  EMULATED_CALL("cudaStreamEndCapture");
  return cudaSuccess;
}
inline cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = graph->size();
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                        unsigned long long) {
  EMULATED_CALL("cudaGraphInstantiate");
  *executable = new quire::emulator::Graph(*graph);
  ++quire::emulator::graph_counts().instantiated;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                       cudaGraphExecUpdateResultInfo*) {
  EMULATED_CALL("cudaGraphExecUpdate");
  if (!quire::emulator::have_same_nodes(*executable, *graph)) {
    return emulated_failure(cudaErrorGraphExecUpdateFailure);
  }
  *executable = *graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  EMULATED_CALL("cudaGraphLaunch");
  ++quire::emulator::graph_counts().launched;
  quire::emulator::run_graph(*executable);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
