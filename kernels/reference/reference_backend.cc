#include "kernels/reference/reference_backend.h"

#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/op_contracts.h"

namespace quire {
namespace {

class HostBuffer final : public DeviceBuffer {
 public:
  explicit HostBuffer(size_t bytes) : bytes_(bytes) {
    const size_t padded = Workspace::padded(bytes == 0 ? 1 : bytes);
    data_ = std::aligned_alloc(64, padded);
    if (data_ == nullptr) {
      throw DeviceError("reference: cannot allocate " + std::to_string(bytes) + " bytes");
    }
    std::memset(data_, 0, padded);
  }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  ~HostBuffer() override { std::free(data_); }
  void* data() override { return data_; }
  size_t size_bytes() const override { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(const BackendOptions& options) {
    num_threads_ = options.num_threads > 0 ? options.num_threads : omp_get_num_procs();
    description_ = "plain loops, " + std::to_string(num_threads_) + " threads";
  }

  std::string_view name() const override { return "reference"; }
  std::string_view description() const override { return description_; }

  std::unique_ptr<DeviceBuffer> allocate(size_t bytes) override {
    return std::make_unique<HostBuffer>(bytes);
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
    return reference::pack_weight(parts, format);
  }
  bool has_f32_attention() const override { return true; }
  bool keeps_blocks() const override { return true; }
  std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts) override {
    verify_block_parts(parts);
    return reference::pack_blocks(parts);
  }

  void embedding(const EmbeddingParams& p) override { run(p, reference::embedding); }
  void matmul(const MatmulParams& p) override { run(p, reference::matmul); }
  void add_bias(const AddBiasParams& p) override { run(p, reference::add_bias); }
  void rms_norm(const RmsNormParams& p) override { run(p, reference::rms_norm); }
  void head_norm(const HeadNormParams& p) override { run(p, reference::head_norm); }
  void rope_table(const RopeTableParams& p) override { run(p, reference::rope_table); }
  void rope(const RopeParams& p) override { run(p, reference::rope); }
  void append_kv(const AppendKvParams& p) override { run(p, reference::append_kv); }
  void seal_blocks(const SealBlocksParams& p) override { run(p, reference::seal_blocks); }
  void seal_units(const SealUnitsParams& p) override { run(p, reference::seal_units); }
  void moba_gate(const MobaGateParams& p) override { run(p, reference::moba_gate); }
  void moba_attention(const MobaAttentionParams& p) override { run(p, reference::moba_attention); }
  void full_attention(const FullAttentionParams& p) override { run(p, reference::full_attention); }
  void silu_mul(const SiluMulParams& p) override { run(p, reference::silu_mul); }
  void sample(const SampleParams& p) override { run(p, reference::sample); }

 private:
  /// Every op: check the contract, then compute with this backend's threads.
  template <class Params>
  void run(const Params& params, void (*op)(const Params&)) const {
    if constexpr (requires { verify(params, AttentionTypes::kF32Too); }) {
      verify(params, AttentionTypes::kF32Too);
    } else {
      verify(params);
    }
    omp_set_num_threads(num_threads_);
    op(params);
  }

  int num_threads_;
  std::string description_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(const BackendOptions& options) {
  return std::make_unique<ReferenceBackend>(options);
}

}  // namespace quire
