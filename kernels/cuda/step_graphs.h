#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

namespace quire::cuda {

/// Decode steps as CUDA graphs. A step of decoding is dozens of short kernels a layer; launched one
/// by one, each waits for the host and for the end of the one before.
///
/// Every step is captured anew: its ops run as ever, with this step's pointers and sizes, and
/// enqueue into a graph instead of onto the stream. So nothing has to be known here of what changes
/// from step to step. What is kept is the executable made of an earlier step: if this step has the
/// same operations in the same order, its arguments go into that one, which costs far less than
/// making another. Steps that differ (one seals a block, another needs an op's second pass) have
/// executables of their own, a few of which are kept.
///
/// Where no executable can be made, most often for want of memory, the step fails and every later
/// one runs op by op.
///
/// One stream's; engine thread only.
class StepGraphs {
 public:
  static constexpr size_t kMaxExecutables = 8;

  explicit StepGraphs(cudaStream_t stream) : stream_(stream) {}
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;
  ~StepGraphs();

  /// What is enqueued on the stream from here on is collected. Nothing may wait for the stream
  /// before launch() or abandon(). Throws DeviceError, and then nothing is collected.
  void begin();
  /// Enqueues what was collected, as one. Throws DeviceError, and then nothing of it was enqueued.
  /// Does nothing after a begin() that collected nothing.
  void launch();
  /// Forgets what was collected.
  void abandon() noexcept;

 private:
  struct Executable {
    cudaGraphExec_t handle;
    size_t num_nodes;
  };

  /// The index of an executable that took the arguments of `graph`, or of a new one.
  size_t fit(cudaGraph_t graph);
  cudaGraphExec_t make_executable(cudaGraph_t graph);
  void drop_executables() noexcept;

  cudaStream_t stream_;
  bool is_collecting_ = false;
  bool is_given_up_ = false;
  std::vector<Executable> executables_;  // the one used last comes last
};

}  // namespace quire::cuda
