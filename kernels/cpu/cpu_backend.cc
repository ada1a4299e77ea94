#include "kernels/cpu/cpu_backend.h"

#include <omp.h>

#include <cstring>
#include <optional>
#include <string>

#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd_rows.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/op_contracts.h"

namespace quire {
namespace {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options) {
    num_threads_ = options.num_threads > 0 ? options.num_threads : omp_get_num_procs();
    description_ = std::string(cpu::instruction_set()) + ", products " + matmul_.description() +
                   ", " + std::to_string(num_threads_) +
                   (num_threads_ == 1 ? " thread" : " threads");
    // Where oneDNN makes the products, all loops run on its kind of threads: two kinds that wait
    // for work actively would take the CPUs from each other.
    if (matmul_.has_own_bf16()) pool_.emplace(num_threads_);
  }

  std::string_view name() const override { return "cpu"; }
  std::string_view description() const override { return description_; }

  std::unique_ptr<DeviceBuffer> allocate(size_t bytes) override {
    return cpu::allocate_host_memory(bytes);
  }
  void upload(std::span<const std::byte> host, void* device) override {
    if (!host.empty()) std::memcpy(device, host.data(), host.size());
  }
  void download(const void* device, std::span<std::byte> host) override {
    if (!host.empty()) std::memcpy(host.data(), device, host.size());
  }
  void synchronize() override {}

  std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts,
                                            WeightFormat format) override {
    verify_weight_parts(parts, format);
    const ThreadsOfOp threads(*this);
    return matmul_.pack(parts, format);
  }
  bool keeps_blocks() const override { return cpu::MatmulEngine::has_own_bf16(); }
  std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts) override {
    verify_block_parts(parts);
    QUIRE_CHECK(keeps_blocks()) << "pack_blocks: a CPU without dot products of bf16";
    const ThreadsOfOp threads(*this);
    return matmul_.pack_blocks(parts);
  }

  void matmul(const MatmulParams& p) override {
    verify(p);
    const ThreadsOfOp threads(*this);
    matmul_.run(p);
  }
  void embedding(const EmbeddingParams& p) override { run(p, cpu::embedding); }
  void add_bias(const AddBiasParams& p) override { run(p, cpu::add_bias); }
  void rms_norm(const RmsNormParams& p) override { run(p, cpu::rms_norm); }
  void head_norm(const HeadNormParams& p) override { run(p, cpu::head_norm); }
  void rope_table(const RopeTableParams& p) override { run(p, cpu::rope_table); }
  void rope(const RopeParams& p) override { run(p, cpu::rope); }
  void append_kv(const AppendKvParams& p) override { run(p, cpu::append_kv); }
  void seal_blocks(const SealBlocksParams& p) override { run(p, cpu::seal_blocks); }
  void seal_units(const SealUnitsParams& p) override { run(p, cpu::seal_units); }
  void moba_gate(const MobaGateParams& p) override { run(p, cpu::moba_gate); }
  void moba_attention(const MobaAttentionParams& p) override { run(p, cpu::moba_attention); }
  void full_attention(const FullAttentionParams& p) override { run(p, cpu::full_attention); }
  void silu_mul(const SiluMulParams& p) override { run(p, cpu::silu_mul); }
  void sample(const SampleParams& p) override { run(p, cpu::sample); }

 private:
  /// The threads of one op, be it the pool's or OpenMP's, whoever calls it.
  struct ThreadsOfOp {
    explicit ThreadsOfOp(CpuBackend& backend) : scope(backend.pool_ ? &*backend.pool_ : nullptr) {
      omp_set_num_threads(backend.num_threads_);
    }
    cpu::WorkerPool::Scope scope;
  };

  template <class Params>
  void run(const Params& params, void (*op)(const Params&)) {
    verify(params);
    const ThreadsOfOp threads(*this);
    op(params);
  }

  int num_threads_;
  cpu::MatmulEngine matmul_;
  std::optional<cpu::WorkerPool> pool_;
  std::string description_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace quire
