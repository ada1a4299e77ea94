#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/buffer.h"
#include "kernels/cuda/fault.h"

namespace quire::cuda {

/// Throws DeviceError "<op>: <what>: <CUDA's words>" unless `error` is success.
void check(cudaError_t error, const char* op, const std::string& what);

/// What one op needs to enqueue its kernels. A value, valid for the op's duration.
class OpStream {
 public:
  OpStream(OpId op, cudaStream_t stream, Fault* fault, int num_multiprocessors,
           std::span<std::byte> scratch)
      : op_(op),
        stream_(stream),
        fault_(fault),
        num_multiprocessors_(num_multiprocessors),
        scratch_(scratch) {}

  const char* op() const { return op_name(op_); }
  cudaStream_t handle() const { return stream_; }
  FaultSink faults() const { return {fault_, op_}; }
  int num_multiprocessors() const { return num_multiprocessors_; }
  /// Device memory that any op may use while it runs. Ops follow each other on one stream, so it
  /// is one piece for all of them.
  std::span<std::byte> scratch() const { return scratch_; }

  void check_launch() const {
    check(cudaGetLastError(), op(), "kernel launch (of this op or one before)");
  }
  void zero(void* device, size_t bytes) const {
    check(cudaMemsetAsync(device, 0, bytes, stream_), op(), "zeroing memory");
  }

 private:
  OpId op_;
  cudaStream_t stream_;
  Fault* fault_;
  int num_multiprocessors_;
  std::span<std::byte> scratch_;
};

/// One device and the one stream that everything runs on, in order: memory, copies through pinned
/// staging, and the faults that kernels report. Engine thread only.
class DeviceStream {
 public:
  /// Throws DeviceError: the device cannot be opened, or the scratch memory cannot be had.
  /// `scratch_bytes` 0: chosen from the device's memory.
  DeviceStream(int ordinal, int64_t scratch_bytes);
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;
  ~DeviceStream();

  /// "NVIDIA H100 80GB HBM3, 132 multiprocessors, compute capability 9.0, driver for CUDA 13.0"
  const std::string& description() const { return description_; }
  OpStream begin(OpId op) const;
  /// Makes the device the calling thread's. Throws DeviceError.
  void choose(OpId op) const;
  cudaStream_t handle() const { return stream_; }

  /// Zeroed, 256-byte aligned. Throws DeviceError with the bytes asked for and the bytes free.
  std::unique_ptr<DeviceBuffer> allocate(size_t bytes);
  /// `host` may be reused on return; the copy itself is asynchronous.
  void upload(std::span<const std::byte> host, void* device);
  /// Waits for everything enqueued before.
  void download(const void* device, std::span<std::byte> host);
  /// Waits; throws ContractError if a kernel found its input outside of its contract.
  void synchronize();
  /// Free and total bytes of the device's memory.
  std::array<uint64_t, 2> memory() const;

 private:
  /// Pinned host memory, used in turns so that filling one overlaps with copying the other.
  struct Staging {
    std::byte* host = nullptr;
    cudaEvent_t copied = nullptr;
  };

  void open(int64_t scratch_bytes);
  void close();
  void throw_fault();

  int ordinal_;
  std::string description_;
  cudaStream_t stream_ = nullptr;
  int num_multiprocessors_ = 0;
  std::array<Staging, 2> staging_;
  size_t next_staging_ = 0;
  Fault* host_fault_ = nullptr;    // pinned
  Fault* device_fault_ = nullptr;  // where kernels report
  std::byte* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
};

}  // namespace quire::cuda
