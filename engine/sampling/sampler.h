#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/core/ids.h"
#include "engine/runner/packed_arrays.h"
#include "engine/runner/step_runner.h"
#include "engine/sampling/logits_processors.h"
#include "engine/sampling/sampling_params.h"
#include "kernels/backend.h"

namespace quire {

struct Sequence;

/// Chooses the next token of each sequence from its row of logits. Engine thread only.
///
/// The i-th token of a sequence is drawn with a number that depends on (seed, i) alone. There is no
/// generator state to save, so batch, chunking, preemption and other requests cannot shift a
/// sequence's random stream.
///
/// Rows without penalties, bias, bans or logprobs never leave the device; only the others are
/// copied to the host, changed there and written back.
class Sampler {
 public:
  /// `backend` must outlive the sampler. Throws DeviceError.
  Sampler(Backend& backend, int32_t max_rows, int32_t vocab_size);

  /// `logits` [sequences.size(), vocab_size] f32 in the backend's memory; rows are overwritten.
  /// Returns one token per sequence, in order, valid until the next call. A token's logprob and
  /// top_logprobs are those of the row as passed in, and are filled only where the request asks for
  /// logprobs.
  std::span<const SampledToken> sample(std::span<const Sequence* const> sequences,
                                       TensorView logits);

  /// Drops the token counts of a sequence. Unknown ids are ignored.
  void forget(SequenceId id) { counts_.erase(id); }

 private:
  /// Applies what changes the row's logits and keeps a copy from before where it will be needed.
  void prepare_row(const Sequence& sequence, TensorView logits_row, std::vector<float>& raw_row);
  void run_backend(std::span<const Sequence* const> sequences, TensorView logits);
  TokenCounts& counts_of(const Sequence& sequence);

  Backend& backend_;
  int32_t max_rows_;
  int32_t vocab_size_;
  std::unique_ptr<DeviceBuffer> parameters_;  // the op's per-row parameters
  std::unique_ptr<DeviceBuffer> results_;     // tokens [max_rows] i32, then logprobs [max_rows] f32
  PackedArrays arrays_;
  std::vector<std::byte> host_results_;
  std::vector<float> row_;                    // [vocab_size] the row being changed
  std::vector<std::vector<float>> raw_rows_;  // [row][vocab_size] as passed in; empty: not needed
  std::vector<SampledToken> sampled_;
  std::unordered_map<SequenceId, TokenCounts> counts_;  // sequences with penalties only
};

}  // namespace quire
