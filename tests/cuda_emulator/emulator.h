#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

// A CUDA device made of ordinary code, so that kernels/cuda can be tested where there is no GPU:
// its sources are compiled by the host compiler against the headers of include/, and every thread
// of a thread block is a fiber. What the hardware does in step is done in step here:
//
//   - a barrier waits for every thread that has not returned; a warp's collective (shuffle, ballot,
//     ldmatrix, mma) for all 32 lanes, which must stand at the same one. Where nobody can go on,
//     the kernel's name and what each thread waits for end the process: what synccheck finds.
//   - between two meeting points the fibers of a block run in an order that set_schedule chooses,
//     and so do the blocks of a grid, one after another. A kernel whose result depends on it lacks
//     a barrier: what racecheck finds.
//   - shared memory starts as NaN, a write behind its end ends the process as a misaligned address
//     does, and cp.async copies when it is waited for, not before
//     (or at once: land_copies_at_once).
//
// What it cannot find: errors in the few lines of PTX that it replaces (device/ptx.cuh), limits of
// registers, and whatever the memory model allows beyond reordering at meeting points.

namespace quire::emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

/// Where the running fiber is.
struct ThreadPlace {
  Dim3 thread_index, block_index, block_dim, grid_dim;
  unsigned flat_thread = 0;  // within its block
};
const ThreadPlace& place();

enum class Schedule { kForward, kBackward, kShuffled };
/// The order of fibers between meeting points, and of blocks; for every launch from now on.
void set_schedule(Schedule schedule);

/// Runs `body` as every thread of every block. `name` for the message of a deadlock.
void run_grid(const char* name, Dim3 grid, Dim3 block, size_t shared_bytes,
              const std::function<void()>& body);

/// One operation of a captured graph: what it is (a kernel's address or a copy's name) and what it
/// does.
struct GraphNode {
  const void* what;
  std::function<void()> run;
};
using Graph = std::vector<GraphNode>;

/// Runs the operation, or makes it a node of the graph that is being captured.
void enqueue(const void* what, std::function<void()> run);
bool is_capturing();
void begin_capture();
Graph* end_capture();
/// Whether both have the same operations in the same order.
bool have_same_nodes(const Graph& a, const Graph& b);
void run_graph(const Graph& graph);

struct GraphCounts {
  int instantiated = 0, launched = 0;
};
/// Of the process so far.
GraphCounts& graph_counts();

/// The running block's dynamic shared memory.
unsigned char* dynamic_shared_memory();

void block_barrier();

/// Meets the other 31 lanes. The last to arrive calls `perform` with the `data` of all of them, in
/// the order of lanes; then all go on. `site` tells collectives apart.
using WarpOperation = void (*)(void* const* lanes);
struct Site {
  const char* operation;
  unsigned line;  // of the call

  friend bool operator==(const Site&, const Site&) = default;
};
void warp_collective(const Site& site, void* data, WarpOperation perform);

/// Ends the process unless the address is a multiple of 16, which the instruction asks for.
void require_alignment(const void* address, const char* instruction);

/// cp.async: queued, committed as a group, done when waited for; or, as a device may, when queued.
void land_copies_at_once(bool at_once);
void queue_copy(void* target, const void* source, size_t num_bytes, size_t num_zero_bytes);
void commit_copies();
void wait_copies(int num_pending_groups);

/// The next call of this runtime function ("cudaMalloc", "cudaMemcpyAsync", "launch", …) fails.
void fail_next(const char* function);
/// Whether `function` was told to fail; forgets it.
bool must_fail(const char* function);

}  // namespace quire::emulator
