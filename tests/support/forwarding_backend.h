#pragma once

#include <memory>
#include <utility>

#include "kernels/backend.h"

namespace quire {

/// Passes everything on to another backend. To watch some ops, derive from it and override those.
/// But it says nothing of decode steps: whoever watches an op may look at what it has written,
/// which a step that is collected has not written yet.
class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string_view name() const override { return inner_->name(); }
  std::string_view description() const override { return inner_->description(); }
  std::unique_ptr<DeviceBuffer> allocate(size_t bytes) override { return inner_->allocate(bytes); }
  void upload(std::span<const std::byte> host, void* device) override {
    inner_->upload(host, device);
  }
  void download(const void* device, std::span<std::byte> host) override {
    inner_->download(device, host);
  }
  void synchronize() override { inner_->synchronize(); }
  DeviceMemory device_memory() const override { return inner_->device_memory(); }
  std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts,
                                            WeightFormat format) override {
    return inner_->pack_weight(parts, format);
  }
  bool keeps_blocks() const override { return inner_->keeps_blocks(); }
  std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts) override {
    return inner_->pack_blocks(parts);
  }
  bool keeps_fp8() const override { return inner_->keeps_fp8(); }
  std::unique_ptr<PackedWeight> pack_fp8(std::span<const Fp8Matrix> parts) override {
    return inner_->pack_fp8(parts);
  }

  void embedding(const EmbeddingParams& p) override { inner_->embedding(p); }
  void matmul(const MatmulParams& p) override { inner_->matmul(p); }
  void add_bias(const AddBiasParams& p) override { inner_->add_bias(p); }
  void rms_norm(const RmsNormParams& p) override { inner_->rms_norm(p); }
  void head_norm(const HeadNormParams& p) override { inner_->head_norm(p); }
  void rope_table(const RopeTableParams& p) override { inner_->rope_table(p); }
  void rope(const RopeParams& p) override { inner_->rope(p); }
  void append_kv(const AppendKvParams& p) override { inner_->append_kv(p); }
  void seal_blocks(const SealBlocksParams& p) override { inner_->seal_blocks(p); }
  void seal_units(const SealUnitsParams& p) override { inner_->seal_units(p); }
  void moba_gate(const MobaGateParams& p) override { inner_->moba_gate(p); }
  void moba_attention(const MobaAttentionParams& p) override { inner_->moba_attention(p); }
  void full_attention(const FullAttentionParams& p) override { inner_->full_attention(p); }
  void silu_mul(const SiluMulParams& p) override { inner_->silu_mul(p); }
  void sample(const SampleParams& p) override { inner_->sample(p); }

 protected:
  Backend& inner() { return *inner_; }

 private:
  std::unique_ptr<Backend> inner_;
};

}  // namespace quire
