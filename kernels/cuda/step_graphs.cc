#include "kernels/cuda/step_graphs.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/device_stream.h"

namespace quire::cuda {
namespace {

const char* const kOp = op_name(OpId::kDecodeStep);

class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (handle_ != nullptr) cudaGraphDestroy(handle_);
  }
  cudaGraph_t* address() { return &handle_; }
  cudaGraph_t get() const { return handle_; }

 private:
  cudaGraph_t handle_ = nullptr;
};

}  // namespace

StepGraphs::~StepGraphs() {
  if (is_collecting_) abandon();
  drop_executables();
}

void StepGraphs::begin() {
  QUIRE_CHECK(!is_collecting_) << "a decode step within another";
  if (is_given_up_) return;
  // Of this thread's calls: another thread may read a device's memory at any time.
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), kOp,
        "beginning to capture");
  is_collecting_ = true;
}

void StepGraphs::launch() {
  if (is_given_up_) return;
  QUIRE_CHECK(is_collecting_) << "no decode step was begun";
  is_collecting_ = false;  // whatever EndCapture says, it ends the capture
  Graph graph;
  check(cudaStreamEndCapture(stream_, graph.address()), kOp, "capturing");
  const size_t index = fit(graph.get());
  std::rotate(executables_.begin() + static_cast<std::ptrdiff_t>(index),
              executables_.begin() + static_cast<std::ptrdiff_t>(index) + 1, executables_.end());
  check(cudaGraphLaunch(executables_.back().handle, stream_), kOp, "launching its graph");
}

void StepGraphs::abandon() noexcept {
  if (!std::exchange(is_collecting_, false)) return;
  Graph graph;
  if (cudaStreamEndCapture(stream_, graph.address()) != cudaSuccess) {
    cudaGetLastError();  // what broke the capture was told by the op that broke it
  }
}

size_t StepGraphs::fit(cudaGraph_t graph) {
  size_t num_nodes = 0;
  check(cudaGraphGetNodes(graph, nullptr, &num_nodes), kOp, "counting nodes");
  for (size_t i = executables_.size(); i-- > 0;) {
    if (executables_[i].num_nodes != num_nodes) continue;
    cudaGraphExecUpdateResultInfo info{};
    if (cudaGraphExecUpdate(executables_[i].handle, graph, &info) == cudaSuccess) return i;
    cudaGetLastError();  // as many nodes, but others
  }
  const Executable made{make_executable(graph), num_nodes};
  if (executables_.size() == kMaxExecutables) {
    cudaGraphExecDestroy(executables_.front().handle);
    executables_.erase(executables_.begin());
  }
  executables_.push_back(made);
  return executables_.size() - 1;
}

cudaGraphExec_t StepGraphs::make_executable(cudaGraph_t graph) {
  cudaGraphExec_t made = nullptr;
  if (cudaGraphInstantiate(&made, graph, 0) == cudaSuccess) return made;
  cudaGetLastError();
  drop_executables();  // their memory may be what is missing
  const cudaError_t error = cudaGraphInstantiate(&made, graph, 0);
  is_given_up_ = error != cudaSuccess;
  check(error, kOp, "making its graph executable");
  return made;
}

void StepGraphs::drop_executables() noexcept {
  for (const Executable& executable : executables_) cudaGraphExecDestroy(executable.handle);
  executables_.clear();
}

}  // namespace quire::cuda
