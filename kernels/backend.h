#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "kernels/buffer.h"
#include "kernels/ops/add_bias.h"
#include "kernels/ops/append_kv.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/full_attention.h"
#include "kernels/ops/head_norm.h"
#include "kernels/ops/matmul.h"
#include "kernels/ops/moba_attention.h"
#include "kernels/ops/moba_gate.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/rope.h"
#include "kernels/ops/sample.h"
#include "kernels/ops/seal_blocks.h"
#include "kernels/ops/seal_units.h"
#include "kernels/ops/silu_mul.h"
#include "kernels/quant/block_matrix.h"
#include "kernels/quant/fp8_matrix.h"

namespace quire {

/// The device or its library failed (out of memory, a CUDA or oneDNN error). The message names the
/// op. Caught at the step boundary; the step's sequences fail.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Memory that a backend has for itself. Zeros where it lives in the process's own memory.
struct DeviceMemory {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;

  bool exists() const { return total_bytes > 0; }
};

/// One implementation of all ops. Ops are enqueued in order and may run asynchronously until
/// `synchronize` or `download`; on CPU backends they are done on return. One caller at a time (the
/// engine thread). Every op verifies its contract first and throws ContractError, with the
/// expected and the actual shape, before it writes anything. What a contract says about contents
/// (an index in range) is checked where the contents lie: an op that runs asynchronously reports
/// it by ContractError from the next `synchronize` or `download`.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;         // "reference", "cpu", "cuda:0"
  virtual std::string_view description() const = 0;  // for the banner: instruction set, threads, …

  /// Zeroed memory. Throws DeviceError with the size asked for.
  virtual std::unique_ptr<DeviceBuffer> allocate(size_t bytes) = 0;
  virtual void upload(std::span<const std::byte> host, void* device) = 0;
  virtual void download(const void* device, std::span<std::byte> host) = 0;
  virtual void synchronize() = 0;
  virtual DeviceMemory device_memory() const { return {}; }

  /// Whether queries, keys and values may be f32, the cache's too: what models are compared with
  /// other implementations in.
  virtual bool has_f32_attention() const { return false; }

  /// Packs the rows of `parts` ([n_i, k], host memory, contiguous, one dtype: bf16 or f32, with
  /// kInt8 bf16 only, with kFloat32 f32 only), one below the other, as one [sum n_i, k] weight. If
  /// it reads_parts(), the memory behind the views must live as long as the weight.
  virtual std::unique_ptr<PackedWeight> pack_weight(std::span<const ConstTensorView> parts,
                                                    WeightFormat format) = 0;

  /// Whether pack_blocks is there; elsewhere the numbers are widened before they are packed.
  virtual bool keeps_blocks() const { return false; }
  /// Like pack_weight, of rows that stay in their blocks (kernels/ops/matmul.h); each part may have
  /// a format of its own. The memory behind the parts may go when this returns.
  virtual std::unique_ptr<PackedWeight> pack_blocks(std::span<const BlockMatrix> parts);

  /// Whether pack_fp8 is there.
  virtual bool keeps_fp8() const { return false; }
  /// Like pack_blocks, of rows that stay in FP8 beside their scales. Null for scales that products
  /// are not made for: such a matrix is widened before it is packed.
  virtual std::unique_ptr<PackedWeight> pack_fp8(std::span<const Fp8Matrix> parts);

  /// The ops between begin_decode_step and end_decode_step are those of one step of decoding, and
  /// nothing else is called in between: a backend may collect them and give them to its device as
  /// one. Where an op throws, abandon_decode_step drops what was collected. `DecodeStep` calls
  /// them.
  virtual void begin_decode_step() {}
  virtual void end_decode_step() {}
  virtual void abandon_decode_step() noexcept {}

  virtual void embedding(const EmbeddingParams&) = 0;
  virtual void matmul(const MatmulParams&) = 0;
  virtual void add_bias(const AddBiasParams&) = 0;
  virtual void rms_norm(const RmsNormParams&) = 0;
  virtual void head_norm(const HeadNormParams&) = 0;
  virtual void rope_table(const RopeTableParams&) = 0;
  virtual void rope(const RopeParams&) = 0;
  virtual void append_kv(const AppendKvParams&) = 0;
  virtual void seal_blocks(const SealBlocksParams&) = 0;
  virtual void seal_units(const SealUnitsParams&) = 0;
  virtual void moba_gate(const MobaGateParams&) = 0;
  virtual void moba_attention(const MobaAttentionParams&) = 0;
  virtual void full_attention(const FullAttentionParams&) = 0;
  virtual void silu_mul(const SiluMulParams&) = 0;
  virtual void sample(const SampleParams&) = 0;
};

/// A scope of a backend's ops that is one decode step. Abandoned unless it is ended.
class DecodeStep {
 public:
  explicit DecodeStep(Backend& backend) : backend_(&backend) { backend.begin_decode_step(); }
  DecodeStep(const DecodeStep&) = delete;
  DecodeStep& operator=(const DecodeStep&) = delete;
  ~DecodeStep() {
    if (backend_ != nullptr) backend_->abandon_decode_step();
  }
  void end() { std::exchange(backend_, nullptr)->end_decode_step(); }

 private:
  Backend* backend_;
};

}  // namespace quire
