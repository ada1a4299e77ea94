#include "kernels/cuda/row_trial.h"

#include "kernels/cuda/device/access.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/plan.h"

namespace quire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostRows = 640;
// Rows repeat after so many: a number that shares no factor with the sizes of tiles.
constexpr int64_t kPeriod = 101;
// Around the sizes of tiles that libraries cut rows into, and what decode steps have.
constexpr int64_t kRowCounts[] = {1,  2,  3,  5,   8,   9,   16,  17,  31,  32,  33,
                                  48, 64, 65, 100, 127, 128, 129, 256, 257, 384, 512};

/// Device memory for the length of a trial.
class TrialMemory {
 public:
  TrialMemory(const OpStream& stream, size_t bytes) {
    check(cudaMalloc(&data_, bytes), stream.op(),
          "memory of " + std::to_string(bytes) + " bytes to try a product");
  }
  TrialMemory(const TrialMemory&) = delete;
  TrialMemory& operator=(const TrialMemory&) = delete;
  ~TrialMemory() { cudaFree(data_); }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

/// Values in [-2, 2) with all of bf16's fraction bits in use, so that sums round; they repeat after
/// `period`. A hash of the place (Knuth's multiplicative one, mixed twice).
__global__ void fill_kernel(BFloat16* values, int64_t count, int64_t period, uint32_t seed) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  uint32_t bits = (static_cast<uint32_t>(i % period) + seed) * 2654435761u;
  bits = (bits ^ (bits >> 15)) * 2246822519u;
  bits ^= bits >> 13;
  values[i] = narrow(static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-30f);
}

__global__ void compare_kernel(const uint32_t* actual, const uint32_t* expected, int64_t count,
                               int* num_different) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count && actual[i] != expected[i]) atomicAdd(num_different, 1);
}

dim3 grid_of(int64_t count) { return dim3{blocks_for(count, kThreads), 1, 1}; }

}  // namespace

bool rows_are_independent(int64_t n, int64_t k, const OpStream& stream,
                          const MultiplyRows& multiply) {
  const dim3 threads{kThreads, 1, 1};
  const TrialMemory a(stream, static_cast<size_t>(kMostRows * k) * sizeof(BFloat16));
  const TrialMemory weight(stream, static_cast<size_t>(n * k) * sizeof(BFloat16));
  const TrialMemory many(stream, static_cast<size_t>(kMostRows * n) * sizeof(float));
  const TrialMemory few(stream, static_cast<size_t>(kMostRows * n) * sizeof(float));
  const TrialMemory counter(stream, sizeof(int));
  const auto rows_of_a = [&](int64_t count) {
    return make_view(static_cast<const BFloat16*>(a.data()), {count, k});
  };
  const ConstTensorView weights = make_view(static_cast<const BFloat16*>(weight.data()), {n, k});
  launch(stream, fill_kernel, grid_of(kMostRows * k), threads, 0, static_cast<BFloat16*>(a.data()),
         kMostRows * k, kPeriod * k, 1u);
  launch(stream, fill_kernel, grid_of(n * k), threads, 0, static_cast<BFloat16*>(weight.data()),
         n * k, n * k, 2u);
  stream.zero(counter.data(), sizeof(int));
  const TensorView expected = make_view(static_cast<float*>(many.data()), {kMostRows, n});
  if (!multiply(rows_of_a(kMostRows), weights, expected)) return false;
  const auto compare = [&](const void* actual, const void* wanted, int64_t num_rows) {
    launch(stream, compare_kernel, grid_of(num_rows * n), threads, 0,
           static_cast<const uint32_t*>(actual), static_cast<const uint32_t*>(wanted), num_rows * n,
           static_cast<int*>(counter.data()));
  };
  // A row is the one that stands a period before it, in another place of another tile.
  compare(static_cast<const float*>(many.data()) + kPeriod * n, many.data(), kMostRows - kPeriod);
  for (const int64_t count : kRowCounts) {
    const TensorView actual = make_view(static_cast<float*>(few.data()), {count, n});
    if (!multiply(rows_of_a(count), weights, actual)) return false;
    compare(few.data(), many.data(), count);
  }
  int num_different = 0;
  check(cudaMemcpyAsync(&num_different, counter.data(), sizeof num_different,
                        cudaMemcpyDeviceToHost, stream.handle()),
        stream.op(), "copying from the device");
  check(cudaStreamSynchronize(stream.handle()), stream.op(), "waiting for the device");
  return num_different == 0;
}

}  // namespace quire::cuda
