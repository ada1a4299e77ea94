#include "kernels/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/cuda/matmul.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/op_contracts.h"

namespace quire {
namespace {

using cuda::OpId;

constexpr int kMinComputeCapability = 8;  // bf16 tensor cores, cp.async

class CudaBackend final : public Backend {
 public:
  CudaBackend(int ordinal, const BackendOptions& options)
      : name_("cuda:" + std::to_string(ordinal)),
        device_(ordinal, options.scratch_bytes),
        matmul_(device_),
        step_graphs_(device_.handle()),
        has_step_graphs_(options.decode_graphs),
        description_(device_.description() + ", " + matmul_.description() +
                     (has_step_graphs_ ? ", decode steps as graphs" : "")) {}

  std::string_view name() const override { return name_; }
  std::string_view description() const override { return description_; }

  std::unique_ptr<DeviceBuffer> allocate(size_t bytes) override { return device_.allocate(bytes); }
  void upload(std::span<const std::byte> host, void* device) override {
    device_.upload(host, device);
  }
  void download(const void* device, std::span<std::byte> host) override {
    device_.download(device, host);
  }
  void synchronize() override { device_.synchronize(); }
  DeviceMemory device_memory() const override {
    const auto [free_bytes, total_bytes] = device_.memory();
    return {.free_bytes = free_bytes, .total_bytes = total_bytes};
  }

  std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts,
                                            WeightFormat format) override {
    verify_weight_parts(parts, format);
    return matmul_.pack(parts, format);
  }

  bool keeps_fp8() const override { return true; }
  std::unique_ptr<PackedWeight> pack_fp8(std::span<const Fp8Matrix> parts) override {
    verify_fp8_parts(parts);
    return matmul_.pack_fp8(parts);
  }

  void begin_decode_step() override {
    if (!has_step_graphs_) return;
    device_.choose(OpId::kDecodeStep);
    step_graphs_.begin();
  }
  void end_decode_step() override {
    if (has_step_graphs_) step_graphs_.launch();
  }
  void abandon_decode_step() noexcept override { step_graphs_.abandon(); }

  void matmul(const MatmulParams& p) override {
    verify(p);
    matmul_.run(p);
  }
  void embedding(const EmbeddingParams& p) override { run(p, OpId::kEmbedding, cuda::embedding); }
  void add_bias(const AddBiasParams& p) override { run(p, OpId::kAddBias, cuda::add_bias); }
  void rms_norm(const RmsNormParams& p) override { run(p, OpId::kRmsNorm, cuda::rms_norm); }
  void head_norm(const HeadNormParams& p) override { run(p, OpId::kHeadNorm, cuda::head_norm); }
  void rope_table(const RopeTableParams& p) override { run(p, OpId::kRopeTable, cuda::rope_table); }
  void rope(const RopeParams& p) override { run(p, OpId::kRope, cuda::rope); }
  void append_kv(const AppendKvParams& p) override { run(p, OpId::kAppendKv, cuda::append_kv); }
  void seal_blocks(const SealBlocksParams& p) override {
    run(p, OpId::kSealBlocks, cuda::seal_blocks);
  }
  void seal_units(const SealUnitsParams& p) override { run(p, OpId::kSealUnits, cuda::seal_units); }
  void moba_gate(const MobaGateParams& p) override { run(p, OpId::kMobaGate, cuda::moba_gate); }
  void moba_attention(const MobaAttentionParams& p) override {
    run(p, OpId::kMobaAttention, cuda::moba_attention);
  }
  void full_attention(const FullAttentionParams& p) override {
    run(p, OpId::kFullAttention, cuda::full_attention);
  }
  void silu_mul(const SiluMulParams& p) override { run(p, OpId::kSiluMul, cuda::silu_mul); }
  void sample(const SampleParams& p) override { run(p, OpId::kSample, cuda::sample); }

 private:
  template <class Params>
  void run(const Params& params, OpId op, void (*enqueue)(const Params&, const cuda::OpStream&)) {
    verify(params);
    enqueue(params, device_.begin(op));
  }

  std::string name_;
  cuda::DeviceStream device_;
  cuda::MatmulEngine matmul_;
  cuda::StepGraphs step_graphs_;
  bool has_step_graphs_;
  std::string description_;
};

/// The runtime calls a missing driver an insufficient one.
std::string why_absent(cudaError_t error) {
  int driver = 0;
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess &&
      driver == 0) {
    return "no NVIDIA driver is installed";
  }
  return cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error);
}

BackendInfo describe(int ordinal) {
  BackendInfo info{"cuda:" + std::to_string(ordinal), false, ""};
  cudaDeviceProp properties;
  int major = 0;
  cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal);
  }
  if (error != cudaSuccess) {
    cudaGetLastError();  // or the first launch on another device would be blamed for it
    info.detail = cudaGetErrorString(error);
    return info;
  }
  info.available = major >= kMinComputeCapability;
  info.detail = properties.name;
  if (!info.available) {
    info.detail += " has compute capability " + std::to_string(major) + ", needed is 8.0 or later";
  }
  return info;
}

}  // namespace

std::vector<BackendInfo> list_cuda_devices() {
  int num_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&num_devices);
  if (error != cudaSuccess || num_devices == 0) {
    cudaGetLastError();
    return {{"cuda:0", false, why_absent(error)}};
  }
  std::vector<BackendInfo> infos;
  for (int ordinal = 0; ordinal < num_devices; ++ordinal) infos.push_back(describe(ordinal));
  return infos;
}

std::unique_ptr<Backend> make_cuda_backend(int ordinal, const BackendOptions& options) {
  return std::make_unique<CudaBackend>(ordinal, options);
}

}  // namespace quire
