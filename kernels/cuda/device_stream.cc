#include "kernels/cuda/device_stream.h"

#include <algorithm>
#include <cstring>

#include "kernels/backend.h"

namespace quire::cuda {
namespace {

constexpr size_t kStagingBytes = size_t{8} << 20;
// Of a large device's memory: partial results of one pass of an attention op. More passes cost
// some launches; a larger pool of blocks is worth more than that.
constexpr int64_t kMaxScratchBytes = int64_t{512} << 20;
constexpr int64_t kScratchShare = 64;

std::string bytes_text(uint64_t bytes) {
  return std::to_string(bytes) + " bytes (" + std::to_string(bytes >> 20) + " MiB)";
}

class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;
  // A failure here is one of the device's, and the next call of the runtime reports it again.
  ~CudaBuffer() override { cudaFree(data_); }
  void* data() override { return data_; }
  size_t size_bytes() const override { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

std::string describe_device(int ordinal, int num_multiprocessors) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, ordinal), "cuda", "reading device properties");
  int major = 0, minor = 0, driver = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal), "cuda",
        "reading the compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal), "cuda",
        "reading the compute capability");
  check(cudaDriverGetVersion(&driver), "cuda", "reading the driver's version");
  return std::string(properties.name) + ", " + std::to_string(num_multiprocessors) +
         " multiprocessors, compute capability " + std::to_string(major) + "." +
         std::to_string(minor) + ", driver for CUDA " + std::to_string(driver / 1000) + "." +
         std::to_string(driver % 1000 / 10);
}

}  // namespace

void check(cudaError_t error, const char* op, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would be blamed for it
  throw DeviceError(std::string(op) + ": " + what + ": " + cudaGetErrorString(error));
}

DeviceStream::DeviceStream(int ordinal, int64_t scratch_bytes) : ordinal_(ordinal) {
  try {
    open(scratch_bytes);
  } catch (...) {
    close();
    throw;
  }
}

DeviceStream::~DeviceStream() { close(); }

void DeviceStream::open(int64_t scratch_bytes) {
  check(cudaSetDevice(ordinal_), "cuda", "opening device " + std::to_string(ordinal_));
  check(cudaDeviceGetAttribute(&num_multiprocessors_, cudaDevAttrMultiProcessorCount, ordinal_),
        "cuda", "counting multiprocessors");
  description_ = describe_device(ordinal_, num_multiprocessors_);
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cuda", "making a stream");
  for (Staging& staging : staging_) {
    check(cudaHostAlloc(reinterpret_cast<void**>(&staging.host), kStagingBytes, 0), "cuda",
          "pinned memory of " + bytes_text(kStagingBytes));
    check(cudaEventCreateWithFlags(&staging.copied, cudaEventDisableTiming), "cuda",
          "making an event");
  }
  check(cudaHostAlloc(reinterpret_cast<void**>(&host_fault_), sizeof(Fault), 0), "cuda",
        "pinned memory");
  check(cudaMalloc(reinterpret_cast<void**>(&device_fault_), sizeof(Fault)), "cuda",
        "device memory");
  check(cudaMemsetAsync(device_fault_, 0, sizeof(Fault), stream_), "cuda", "zeroing memory");
  if (scratch_bytes == 0) {
    scratch_bytes = std::min(kMaxScratchBytes, static_cast<int64_t>(memory()[1]) / kScratchShare);
  }
  scratch_bytes_ = static_cast<size_t>(scratch_bytes);
  check(cudaMalloc(reinterpret_cast<void**>(&scratch_), scratch_bytes_), "cuda",
        "scratch memory of " + bytes_text(scratch_bytes_));
}

void DeviceStream::close() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (scratch_ != nullptr) cudaFree(scratch_);
  if (device_fault_ != nullptr) cudaFree(device_fault_);
  if (host_fault_ != nullptr) cudaFreeHost(host_fault_);
  for (Staging& staging : staging_) {
    if (staging.copied != nullptr) cudaEventDestroy(staging.copied);
    if (staging.host != nullptr) cudaFreeHost(staging.host);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

// The current device belongs to the thread, and the engine thread is not the one that opened it.
void DeviceStream::choose(OpId op) const {
  check(cudaSetDevice(ordinal_), op_name(op), "choosing the device");
}

OpStream DeviceStream::begin(OpId op) const {
  choose(op);
  return {op, stream_, device_fault_, num_multiprocessors_, {scratch_, scratch_bytes_}};
}

std::array<uint64_t, 2> DeviceStream::memory() const {
  size_t free_bytes = 0, total_bytes = 0;
  choose(OpId::kMemory);
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "memory", "reading the free memory");
  return {free_bytes, total_bytes};
}

std::unique_ptr<DeviceBuffer> DeviceStream::allocate(size_t bytes) {
  choose(OpId::kMemory);
  const size_t padded = Workspace::padded(std::max<size_t>(bytes, 1));
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, padded);
  if (error != cudaSuccess) {
    cudaGetLastError();  // as in check
    const auto [free_bytes, total_bytes] = memory();
    throw DeviceError("memory: cannot allocate " + bytes_text(bytes) + ": " +
                      cudaGetErrorString(error) + "; free are " + bytes_text(free_bytes) + " of " +
                      bytes_text(total_bytes));
  }
  auto buffer = std::make_unique<CudaBuffer>(data, bytes);
  check(cudaMemsetAsync(data, 0, padded, stream_), "memory", "zeroing memory");
  return buffer;
}

void DeviceStream::upload(std::span<const std::byte> host, void* device) {
  choose(OpId::kMemory);
  auto* target = static_cast<std::byte*>(device);
  while (!host.empty()) {
    Staging& staging = staging_[next_staging_];
    next_staging_ = (next_staging_ + 1) % staging_.size();
    const size_t count = std::min(host.size(), kStagingBytes);
    check(cudaEventSynchronize(staging.copied), "memory", "waiting for a copy to the device");
    std::memcpy(staging.host, host.data(), count);
    check(cudaMemcpyAsync(target, staging.host, count, cudaMemcpyHostToDevice, stream_), "memory",
          "copying to the device");
    check(cudaEventRecord(staging.copied, stream_), "memory", "recording an event");
    target += count;
    host = host.subspan(count);
  }
}

void DeviceStream::download(const void* device, std::span<std::byte> host) {
  choose(OpId::kMemory);
  const auto* source = static_cast<const std::byte*>(device);
  Staging& staging = staging_[next_staging_];
  check(cudaEventSynchronize(staging.copied), "memory", "waiting for a copy to the device");
  while (!host.empty()) {
    const size_t count = std::min(host.size(), kStagingBytes);
    check(cudaMemcpyAsync(staging.host, source, count, cudaMemcpyDeviceToHost, stream_), "memory",
          "copying from the device");
    // With the last piece, not before it: one wait for a download of ordinary size.
    if (count == host.size()) {
      synchronize();
    } else {
      check(cudaStreamSynchronize(stream_), "memory", "waiting for the device");
    }
    std::memcpy(host.data(), staging.host, count);
    source += count;
    host = host.subspan(count);
  }
}

void DeviceStream::synchronize() {
  choose(OpId::kMemory);
  check(cudaMemcpyAsync(host_fault_, device_fault_, sizeof(Fault), cudaMemcpyDeviceToHost, stream_),
        "memory", "copying from the device");
  check(cudaStreamSynchronize(stream_), "memory", "waiting for the device");
  if (host_fault_->kind != FaultKind::kNone) throw_fault();
}

void DeviceStream::throw_fault() {
  check(cudaMemsetAsync(device_fault_, 0, sizeof(Fault), stream_), "memory", "zeroing memory");
  throw ContractError(describe(*host_fault_));
}

}  // namespace quire::cuda
