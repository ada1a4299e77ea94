#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/forwarding_backend.h"

namespace quire::bench {

/// What the ops of some steps had to compute and to read, at least. Doubles: ten million tokens of
/// full attention are more FLOPs than 64 bits count, and all numbers up to 2^53 are exact.
struct OpWork {
  double linear_flops = 0;     // matmul: 2 * rows * n * k
  double gate_flops = 0;       // 2 * head_dim per query head and centroid
  double attention_flops = 0;  // 4 * head_dim per query head and attended key
  double weight_bytes = 0;     // every packed weight once per call
  double centroid_bytes = 0;   // every centroid that a gate scores, once per call
  double kv_bytes = 0;         // K and V of every attended block, once per call and KV head

  double flops() const { return linear_flops + gate_flops + attention_flops; }
  double bytes() const { return weight_bytes + centroid_bytes + kv_bytes; }
};

enum class OpKind : uint8_t {
  kEmbedding,
  kMatmul,
  kAddBias,
  kRmsNorm,
  kHeadNorm,
  kRope,
  kAppendKv,
  kSealBlocks,
  kSealUnits,
  kMobaGate,
  kMobaAttention,
  kFullAttention,
  kSiluMul,
  kSample,
  kCount,
};
inline constexpr auto kNumOps = static_cast<size_t>(OpKind::kCount);
std::string_view op_name(OpKind op);

/// Stands before a real backend, passes every op on and keeps the time that each took. Between
/// start_counting and stop_counting it also adds up the ops' work, from their very arguments: which
/// blocks were attended is read from `selected`, not estimated. Counting takes time of its own, so
/// it runs in the warm-up, and then no step is collected. On a backend that runs asynchronously the
/// times are those of enqueuing, unless every op is waited for.
class MeteredBackend final : public ForwardingBackend {
 public:
  using OpSeconds = std::array<double, kNumOps>;

  using ForwardingBackend::ForwardingBackend;

  /// Waits for every op from here on, so that its time is its own; the steps take longer.
  void wait_for_ops() { waits_for_ops_ = true; }

  void start_counting();
  OpWork stop_counting();

  const OpSeconds& op_seconds() const { return op_seconds_; }
  void reset_op_seconds() { op_seconds_ = {}; }

  void begin_decode_step() override {
    if (collects_steps()) inner().begin_decode_step();
  }
  void end_decode_step() override {
    if (collects_steps()) inner().end_decode_step();
  }
  void abandon_decode_step() noexcept override { inner().abandon_decode_step(); }

  void embedding(const EmbeddingParams& p) override;
  void matmul(const MatmulParams& p) override;
  void add_bias(const AddBiasParams& p) override;
  void rms_norm(const RmsNormParams& p) override;
  void head_norm(const HeadNormParams& p) override;
  void rope_table(const RopeTableParams& p) override;
  void rope(const RopeParams& p) override;
  void append_kv(const AppendKvParams& p) override;
  void seal_blocks(const SealBlocksParams& p) override;
  void seal_units(const SealUnitsParams& p) override;
  void moba_gate(const MobaGateParams& p) override;
  void moba_attention(const MobaAttentionParams& p) override;
  void full_attention(const FullAttentionParams& p) override;
  void silu_mul(const SiluMulParams& p) override;
  void sample(const SampleParams& p) override;

 private:
  /// One sequence's rows of an op's batch.
  struct Rows {
    int32_t first_row = 0, end_row = 0;
    int32_t kv_len = 0;

    int32_t position(int32_t row) const { return kv_len - (end_row - row); }
  };

  template <class Action>
  void time(OpKind op, const Action& action) {
    const auto begin = std::chrono::steady_clock::now();
    action();
    if (waits_for_ops_) inner().synchronize();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    op_seconds_[static_cast<size_t>(op)] += took.count();
  }
  bool collects_steps() const { return !is_counting_ && !waits_for_ops_; }
  std::vector<int32_t> read(const ConstTensorView& view);
  std::vector<Rows> read_rows(const RaggedBatchView& batch);
  void count(const MatmulParams& p);
  void count(const MobaGateParams& p);
  void count(const MobaAttentionParams& p);
  void count(const FullAttentionParams& p);

  OpSeconds op_seconds_{};
  OpWork work_;
  bool is_counting_ = false;
  bool waits_for_ops_ = false;
};

}  // namespace quire::bench
