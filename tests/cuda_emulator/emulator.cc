#include "tests/cuda_emulator/emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace quire::emulator {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr unsigned kWarpSize = 32;
constexpr size_t kSharedAlignment = 128;
constexpr unsigned char kPoison = 0xFF;    // NaN in every format
constexpr size_t kGuardBytes = 16 * 1024;  // behind the shared memory that was asked for

enum class State { kReady, kWaiting, kDone };

struct Copy {
  void* target;
  const void* source;
  size_t num_bytes, num_zero_bytes;
};

bool copies_land_at_once = false;

/// The copies that a thread has begun, in order.
class CopyQueue {
 public:
  void clear() {
    copies_.clear();
    group_ends_.clear();
  }
  void add(const Copy& copy) {
    if (copies_land_at_once) perform(copy);
    copies_.push_back(copy);
  }
  void commit() { group_ends_.push_back(copies_.size()); }
  /// Does all groups but the last `num_pending` ones.
  void wait(size_t num_pending) {
    if (group_ends_.size() <= num_pending) return;
    const auto last = group_ends_.end() - static_cast<std::ptrdiff_t>(num_pending) - 1;
    const size_t end = *last;
    for (size_t i = 0; i < end && !copies_land_at_once; ++i) perform(copies_[i]);
    copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(end));
    group_ends_.erase(group_ends_.begin(), last + 1);
    for (size_t& group_end : group_ends_) group_end -= end;
  }

 private:
  static void perform(const Copy& copy) {
    if (copy.num_bytes > 0) std::memcpy(copy.target, copy.source, copy.num_bytes);
    std::memset(static_cast<char*>(copy.target) + copy.num_bytes, 0, copy.num_zero_bytes);
  }

  std::vector<Copy> copies_;
  std::vector<size_t> group_ends_;
};

/// Runs one thread after another: its stack and its loop outlive blocks and launches.
struct Fiber {
  ThreadPlace place;
  State state = State::kReady;
  Site waits_for{};
  CopyQueue copies;
  std::unique_ptr<unsigned char[]> stack;  // none: never ran
  ucontext_t entry;
  jmp_buf resume;
};

struct Warp {
  void* lanes[kWarpSize];
  unsigned num_arrived = 0;
  Site site{};
};

/// The thread block in flight, one after another. Lives on one thread of the machine.
struct Block {
  const char* kernel = nullptr;
  const std::function<void()>* body = nullptr;
  unsigned num_threads = 0;
  std::vector<std::unique_ptr<Fiber>> fibers;  // at least num_threads
  std::vector<Warp> warps;
  std::vector<unsigned char> shared;  // unaligned, guard included
  size_t shared_bytes = 0;
  unsigned num_at_barrier = 0, num_done = 0;
  Fiber* running = nullptr;
  jmp_buf scheduler;
};

thread_local Block current;
Schedule schedule_of_threads = Schedule::kForward;
std::mutex failures_mutex;
std::multiset<std::string> failures;

[[noreturn]] void die(const Block& block, const char* why) {
  std::fprintf(stderr, "cuda emulator: kernel %s: %s\n", block.kernel, why);
  for (unsigned t = 0; t < block.num_threads; ++t) {
    const Fiber& fiber = *block.fibers[t];
    if (fiber.state != State::kWaiting) continue;
    std::fprintf(stderr, "  thread %u of block (%u, %u, %u) waits at %s (line %u)\n",
                 fiber.place.flat_thread, fiber.place.block_index.x, fiber.place.block_index.y,
                 fiber.place.block_index.z, fiber.waits_for.operation, fiber.waits_for.line);
  }
  std::abort();
}

void yield_to_scheduler(Block& block) {
  if (_setjmp(block.running->resume) == 0) _longjmp(block.scheduler, 1);
}

void wait_at(Block& block, const Site& what) {
  block.running->state = State::kWaiting;
  block.running->waits_for = what;
  yield_to_scheduler(block);
}

void release_barrier_if_complete(Block& block) {
  if (block.num_at_barrier == 0 || block.num_at_barrier + block.num_done < block.num_threads) {
    return;
  }
  block.num_at_barrier = 0;
  for (unsigned t = 0; t < block.num_threads; ++t) {
    Fiber& fiber = *block.fibers[t];
    if (fiber.state == State::kWaiting) fiber.state = State::kReady;
  }
}

[[noreturn]] void fiber_main() {
  Block& block = current;
  for (;;) {
    (*block.body)();
    block.running->state = State::kDone;
    ++block.num_done;
    yield_to_scheduler(block);
  }
}

void resume(Block& block, Fiber& fiber) {
  block.running = &fiber;
  if (_setjmp(block.scheduler) != 0) return;
  if (fiber.stack) _longjmp(fiber.resume, 1);
  fiber.stack.reset(new unsigned char[kStackBytes]);
  getcontext(&fiber.entry);
  fiber.entry.uc_stack.ss_sp = fiber.stack.get();
  fiber.entry.uc_stack.ss_size = kStackBytes;
  fiber.entry.uc_link = nullptr;
  makecontext(&fiber.entry, fiber_main, 0);
  setcontext(&fiber.entry);
}

/// 0 to count - 1 in the order of the schedule.
std::vector<unsigned> order_of(size_t count, unsigned seed) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule_of_threads == Schedule::kBackward) std::reverse(order.begin(), order.end());
  if (schedule_of_threads == Schedule::kShuffled) {
    std::mt19937 random(seed);
    std::shuffle(order.begin(), order.end(), random);
  }
  return order;
}

void start_block(Block& block, Dim3 index, Dim3 grid, Dim3 dim, size_t shared_bytes) {
  block.num_threads = dim.x * dim.y * dim.z;
  while (block.fibers.size() < block.num_threads) block.fibers.push_back(std::make_unique<Fiber>());
  block.warps.assign((block.num_threads + kWarpSize - 1) / kWarpSize, Warp{});
  block.shared_bytes = shared_bytes;
  block.shared.assign(kSharedAlignment + shared_bytes + kGuardBytes, kPoison);
  block.num_at_barrier = block.num_done = 0;
  for (unsigned t = 0; t < block.num_threads; ++t) {
    Fiber& fiber = *block.fibers[t];
    fiber.place = {{t % dim.x, t / dim.x % dim.y, t / dim.x / dim.y}, index, dim, grid, t};
    fiber.state = State::kReady;
    fiber.copies.clear();
  }
}

void run_block(Block& block, const std::vector<unsigned>& order) {
  while (block.num_done < block.num_threads) {
    bool any_ran = false;
    for (const unsigned t : order) {
      Fiber& fiber = *block.fibers[t];
      if (fiber.state != State::kReady) continue;
      any_ran = true;
      resume(block, fiber);
    }
    release_barrier_if_complete(block);
    if (!any_ran && block.num_done < block.num_threads) {
      const bool stuck = std::none_of(order.begin(), order.end(), [&](unsigned t) {
        return block.fibers[t]->state == State::kReady;
      });
      if (stuck) die(block, "threads wait for others that never come");
    }
  }
  const unsigned char* guard = dynamic_shared_memory() + block.shared_bytes;
  if (!std::all_of(guard, guard + kGuardBytes, [](unsigned char c) { return c == kPoison; })) {
    die(block, "it wrote behind its shared memory");
  }
}

}  // namespace

const ThreadPlace& place() { return current.running->place; }

void set_schedule(Schedule schedule) { schedule_of_threads = schedule; }

void run_grid(const char* name, Dim3 grid, Dim3 block_dim, size_t shared_bytes,
              const std::function<void()>& body) {
  Block& block = current;
  block.kernel = name;
  block.body = &body;
  const unsigned num_threads = block_dim.x * block_dim.y * block_dim.z;
  for (const unsigned b : order_of(size_t{grid.x} * grid.y * grid.z, 1)) {
    const Dim3 index{b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    start_block(block, index, grid, block_dim, shared_bytes);
    run_block(block, order_of(num_threads, b));
  }
}

namespace {
// A stream captures the calls of its thread, and every backend has one stream.
thread_local std::unique_ptr<Graph> captured;
}  // namespace

void enqueue(const void* what, std::function<void()> run) {
  if (captured == nullptr) return run();
  captured->push_back({what, std::move(run)});
}

bool is_capturing() { return captured != nullptr; }

void begin_capture() { captured = std::make_unique<Graph>(); }

Graph* end_capture() { return captured.release(); }

bool have_same_nodes(const Graph& a, const Graph& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const GraphNode& x, const GraphNode& y) { return x.what == y.what; });
}

void run_graph(const Graph& graph) {
  for (const GraphNode& node : graph) node.run();
}

GraphCounts& graph_counts() {
  static GraphCounts counts;
  return counts;
}

unsigned char* dynamic_shared_memory() {
  const auto address = reinterpret_cast<uintptr_t>(current.shared.data());
  return current.shared.data() + (kSharedAlignment - address % kSharedAlignment) % kSharedAlignment;
}

void block_barrier() {
  Block& block = current;
  ++block.num_at_barrier;
  wait_at(block, {"__syncthreads", 0});
}

void warp_collective(const Site& site, void* data, WarpOperation perform) {
  Block& block = current;
  const unsigned thread = block.running->place.flat_thread;
  Warp& warp = block.warps[thread / kWarpSize];
  if (warp.num_arrived > 0 && warp.site != site) {
    die(block, "the lanes of a warp met at different collectives");
  }
  warp.site = site;
  warp.lanes[thread % kWarpSize] = data;
  if (++warp.num_arrived < kWarpSize) {
    wait_at(block, site);
    return;
  }
  perform(warp.lanes);
  warp.num_arrived = 0;
  const unsigned first = thread / kWarpSize * kWarpSize;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    block.fibers[first + lane]->state = State::kReady;
  }
}

void require_alignment(const void* address, const char* instruction) {
  if (reinterpret_cast<uintptr_t>(address) % 16 == 0) return;
  std::fprintf(stderr, "cuda emulator: %s of a misaligned address\n", instruction);
  die(current, "the instruction would fault");
}

void queue_copy(void* target, const void* source, size_t num_bytes, size_t num_zero_bytes) {
  current.running->copies.add({target, source, num_bytes, num_zero_bytes});
}

void land_copies_at_once(bool at_once) { copies_land_at_once = at_once; }

void commit_copies() { current.running->copies.commit(); }

void wait_copies(int num_pending_groups) {
  current.running->copies.wait(static_cast<size_t>(num_pending_groups));
}

void fail_next(const char* function) {
  const std::lock_guard lock(failures_mutex);
  failures.insert(function);
}

bool must_fail(const char* function) {
  const std::lock_guard lock(failures_mutex);
  const auto found = failures.find(function);
  if (found == failures.end()) return false;
  failures.erase(found);
  return true;
}

}  // namespace quire::emulator
