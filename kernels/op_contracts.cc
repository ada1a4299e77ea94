#include "kernels/op_contracts.h"

#include <string>

#include "kernels/tensor_check.h"

namespace quire {
namespace {

using enum DType;
constexpr auto kContiguous = TensorCheck::Layout::kContiguous;

std::initializer_list<DType> query_types(AttentionTypes types) {
  static constexpr std::initializer_list<DType> kRounded{kBF16}, kAll{kBF16, kF32};
  return types == AttentionTypes::kF32Too ? kAll : kRounded;
}

std::initializer_list<DType> cache_types(AttentionTypes types) {
  static constexpr std::initializer_list<DType> kRounded{kBF16, kI8}, kAll{kBF16, kI8, kF32};
  return types == AttentionTypes::kF32Too ? kAll : kRounded;
}

void verify_kv(const TensorCheck& check, const PagedKvView& kv, AttentionTypes types,
               Extent& num_kv_heads, Extent& head_dim) {
  Extent num_blocks("num_blocks"), block_size("block_size");
  check.tensor("kv.k", kv.k, cache_types(types),
               {&num_blocks, &num_kv_heads, &block_size, &head_dim}, kContiguous);
  check.tensor("kv.v", kv.v, {kv.k.dtype}, {&num_blocks, &num_kv_heads, &block_size, &head_dim},
               kContiguous);
  if (kv.is_int8()) {
    check.tensor("kv.k_scales", kv.k_scales, {kBF16}, {&num_blocks, &num_kv_heads, &block_size},
                 kContiguous);
    check.tensor("kv.v_scales", kv.v_scales, {kBF16}, {&num_blocks, &num_kv_heads, &block_size},
                 kContiguous);
  } else {
    check.that(kv.k_scales.data == nullptr && kv.v_scales.data == nullptr,
               "no scales beside keys and values that are not int8");
  }
  Extent digest_dim(kv.digest_dim());
  check.tensor("kv.centroids", kv.centroids, {kBF16}, {&num_blocks, &num_kv_heads, &digest_dim},
               kContiguous);
  if (kv.unit_centroids.data != nullptr) {
    check.that(kv.digest == BlockDigest::kMean, "selection units with digest mean only");
    Extent num_stages("num_stages");
    check.tensor("kv.unit_centroids", kv.unit_centroids, {kBF16},
                 {&num_stages, &num_blocks, &num_kv_heads, &head_dim}, kContiguous);
  }
  check.that(block_size.value() >= 1 && num_kv_heads.value() >= 1,
             "block_size >= 1 and num_kv_heads >= 1");
}

void verify_batch(const TensorCheck& check, const RaggedBatchView& batch, Extent& num_seqs) {
  Extent max_blocks("max_blocks");
  check.tensor("batch.kv_lens", batch.kv_lens, {kI32}, {&num_seqs}, kContiguous);
  Extent num_bounds(num_seqs.value() + 1);
  check.tensor("batch.cu_query_lens", batch.cu_query_lens, {kI32}, {&num_bounds}, kContiguous);
  check.tensor("batch.block_tables", batch.block_tables, {kI32}, {&num_seqs, &max_blocks});
}

void verify_attention(const TensorCheck& check, const ConstTensorView& query, const PagedKvView& kv,
                      const RaggedBatchView& batch, const TensorView& out, float softmax_scale,
                      AttentionTypes types) {
  Extent num_tokens("num_tokens"), num_heads("num_heads"), head_dim("head_dim");
  Extent num_kv_heads("num_kv_heads"), num_seqs("num_seqs");
  check.tensor("query", query, query_types(types), {&num_tokens, &num_heads, &head_dim});
  verify_kv(check, kv, types, num_kv_heads, head_dim);
  verify_batch(check, batch, num_seqs);
  check.tensor("out", out, {kBF16, kF32}, {&num_tokens, &num_heads, &head_dim});
  check.that(num_heads.value() % num_kv_heads.value() == 0,
             "num_heads (" + std::to_string(num_heads.value()) +
                 ") to be a multiple of num_kv_heads (" + std::to_string(num_kv_heads.value()) +
                 ")");
  check.that(softmax_scale > 0, "softmax_scale > 0");
}

}  // namespace

void verify(const AddBiasParams& params) {
  const TensorCheck check("add_bias");
  Extent num_rows("num_rows"), width("width");
  check.tensor("x", params.x, {kF32}, {&num_rows, &width});
  check.tensor("bias", params.bias, {kBF16, kF32}, {&width});
}

void verify(const EmbeddingParams& params) {
  const TensorCheck check("embedding");
  Extent vocab_size("vocab_size"), hidden_size("hidden_size"), num_tokens("num_tokens");
  check.tensor("table", params.table, {kBF16, kF32}, {&vocab_size, &hidden_size});
  check.tensor("tokens", params.tokens, {kI32}, {&num_tokens}, kContiguous);
  check.tensor("out", params.out, {kF32}, {&num_tokens, &hidden_size});
}

void verify(const MatmulParams& params) {
  const TensorCheck check("matmul");
  check.that(params.weight != nullptr, "a packed weight");
  const DType dtype = params.weight->dtype();
  Extent num_rows("num_rows_m"), k(params.weight->num_columns()), n(params.weight->num_rows());
  check.tensor("a", params.a, {dtype == kI8 ? kBF16 : dtype}, {&num_rows, &k});
  check.tensor("out", params.out, {kF32}, {&num_rows, &n});
}

void verify(const RmsNormParams& params) {
  const TensorCheck check("rms_norm");
  Extent num_rows("num_rows"), width("width");
  check.tensor("x", params.x, {kF32}, {&num_rows, &width});
  if (params.delta.data != nullptr) {
    check.tensor("delta", params.delta, {kF32}, {&num_rows, &width});
  }
  check.tensor("weight", params.weight, {kBF16, kF32}, {&width});
  check.tensor("out", params.out, {kBF16, kF32}, {&num_rows, &width});
}

void verify(const HeadNormParams& params) {
  const TensorCheck check("head_norm");
  Extent num_tokens("num_tokens"), num_heads("num_heads"), head_dim("head_dim");
  check.tensor("x", params.x, {kF32}, {&num_tokens, &num_heads, &head_dim});
  check.tensor("weight", params.weight, {kBF16, kF32}, {&head_dim});
}

void verify(const RopeTableParams& params) {
  const TensorCheck check("rope_table");
  Extent num_tokens("num_tokens"), num_sets("num_sets"), num_pairs("num_pairs");
  check.tensor("positions", params.positions, {kI32}, {&num_tokens}, kContiguous);
  check.tensor("inv_freq", params.inv_freq, {kF64}, {&num_sets, &num_pairs}, kContiguous);
  check.that(num_sets.value() >= 1, "a set of frequencies");
  if (params.sets.data != nullptr) {
    check.tensor("sets", params.sets, {kI32}, {&num_tokens}, kContiguous);
  }
  check.tensor("cos", params.cos, {kF32}, {&num_tokens, &num_pairs});
  check.tensor("sin", params.sin, {kF32}, {&num_tokens, &num_pairs});
}

void verify(const RopeParams& params) {
  const TensorCheck check("rope");
  Extent num_tokens("num_tokens"), num_heads("num_heads"), head_dim("head_dim");
  check.tensor("x", params.x, {kF32}, {&num_tokens, &num_heads, &head_dim});
  Extent num_pairs("num_pairs");
  check.tensor("cos", params.cos, {kF32}, {&num_tokens, &num_pairs});
  check.that(2 * num_pairs.value() <= head_dim.value(),
             "at most head_dim / 2 pairs, not " + std::to_string(num_pairs.value()));
  check.tensor("sin", params.sin, {kF32}, {&num_tokens, &num_pairs});
  check.tensor("out", params.out, {kBF16, kF32}, {&num_tokens, &num_heads, &head_dim});
}

void verify(const AppendKvParams& params, AttentionTypes types) {
  const TensorCheck check("append_kv");
  Extent num_tokens("num_tokens"), num_kv_heads("num_kv_heads"), head_dim("head_dim");
  check.tensor("key", params.key, {kBF16, kF32}, {&num_tokens, &num_kv_heads, &head_dim});
  check.tensor("value", params.value, {kBF16, kF32}, {&num_tokens, &num_kv_heads, &head_dim});
  check.tensor("slots", params.slots, {kI64}, {&num_tokens}, kContiguous);
  verify_kv(check, params.kv, types, num_kv_heads, head_dim);
}

void verify(const SealBlocksParams& params, AttentionTypes types) {
  const TensorCheck check("seal_blocks");
  Extent num_kv_heads("num_kv_heads"), head_dim("head_dim"), num_sealed("num_sealed");
  verify_kv(check, params.kv, types, num_kv_heads, head_dim);
  check.tensor("block_ids", params.block_ids, {kI32}, {&num_sealed}, kContiguous);
}

void verify(const SealUnitsParams& params, AttentionTypes types) {
  const TensorCheck check("seal_units");
  Extent num_kv_heads("num_kv_heads"), head_dim("head_dim"), num_units("num_units"), group("group");
  verify_kv(check, params.kv, types, num_kv_heads, head_dim);
  check.that(params.stage >= 0 && params.stage < params.kv.num_stages(),
             "a stage of kv.unit_centroids, not " + std::to_string(params.stage));
  check.tensor("members", params.members, {kI32}, {&num_units, &group}, kContiguous);
  check.that(group.value() >= 1, "group >= 1");
}

void verify(const MobaGateParams& params, AttentionTypes types) {
  const TensorCheck check("moba_gate");
  Extent num_tokens("num_tokens"), num_heads("num_heads"), head_dim("head_dim");
  Extent num_kv_heads("num_kv_heads"), num_seqs("num_seqs"), max_selected("max_selected");
  check.tensor("query", params.query, query_types(types), {&num_tokens, &num_heads, &head_dim});
  verify_kv(check, params.kv, types, num_kv_heads, head_dim);
  check.that(num_heads.value() % num_kv_heads.value() == 0,
             "num_heads to be a multiple of num_kv_heads");
  verify_batch(check, params.batch, num_seqs);
  check.tensor("top_k", params.top_k, {kI32}, {&num_seqs}, kContiguous);
  check.tensor("selected", params.selected, {kI32}, {&num_tokens, &num_heads, &max_selected});
  check.that(max_selected.value() >= 1, "max_selected >= 1");
  check.that(params.schedule.num_stages <= params.kv.num_stages(),
             "kv.unit_centroids for " + std::to_string(params.schedule.num_stages) + " stages");
}

void verify(const MobaAttentionParams& params, AttentionTypes types) {
  const TensorCheck check("moba_attention");
  verify_attention(check, params.query, params.kv, params.batch, params.out, params.softmax_scale,
                   types);
  Extent num_tokens(params.query.shape[0]), num_heads(params.query.shape[1]);
  Extent max_top_k("max_top_k");
  check.tensor("selected", params.selected, {kI32}, {&num_tokens, &num_heads, &max_top_k});
  check.that(max_top_k.value() >= 1, "max_top_k >= 1");
}

void verify(const FullAttentionParams& params, AttentionTypes types) {
  const TensorCheck check("full_attention");
  verify_attention(check, params.query, params.kv, params.batch, params.out, params.softmax_scale,
                   types);
  check.that(params.window >= 0, "window >= 0, not " + std::to_string(params.window));
}

void verify(const SiluMulParams& params) {
  const TensorCheck check("silu_mul");
  Extent num_tokens("num_tokens"), width("width");
  check.tensor("out", params.out, {kBF16, kF32}, {&num_tokens, &width});
  Extent both(2 * width.value());
  check.tensor("gate_up", params.gate_up, {kF32}, {&num_tokens, &both});
}

void verify(const SampleParams& params) {
  const TensorCheck check("sample");
  Extent num_rows("num_rows"), vocab_size("vocab_size");
  check.tensor("logits", params.logits, {kF32}, {&num_rows, &vocab_size});
  check.that(vocab_size.value() >= 1, "vocab_size >= 1");
  check.tensor("temperature", params.temperature, {kF32}, {&num_rows}, kContiguous);
  check.tensor("top_k", params.top_k, {kI32}, {&num_rows}, kContiguous);
  check.tensor("top_p", params.top_p, {kF32}, {&num_rows}, kContiguous);
  check.tensor("min_p", params.min_p, {kF32}, {&num_rows}, kContiguous);
  check.tensor("uniform", params.uniform, {kF64}, {&num_rows}, kContiguous);
  check.tensor("tokens", params.tokens, {kI32}, {&num_rows}, kContiguous);
  check.tensor("logprobs", params.logprobs, {kF32}, {&num_rows}, kContiguous);
}

void verify_weight_parts(std::span<const ConstTensorView> parts, WeightFormat format) {
  const TensorCheck check("pack_weight");
  check.that(!parts.empty(), "at least one part");
  Extent k("k");
  for (const ConstTensorView& part : parts) {
    Extent n("n");
    check.tensor("part", part, {parts.front().dtype}, {&n, &k}, kContiguous);
  }
  const DType dtype = parts.front().dtype;
  if (format == WeightFormat::kInt8) {
    check.that(dtype == kBF16, "bf16 parts for an int8 weight");
    check.that(k.value() <= kMaxInt8Columns, "k <= " + std::to_string(kMaxInt8Columns));
  }
  check.that(dtype == kBF16 || dtype == kF32, "bf16 or f32 parts");
  check.that(format != WeightFormat::kFloat32 || dtype == kF32, "f32 parts for an f32 weight");
}

void verify_block_parts(std::span<const BlockMatrix> parts) {
  const TensorCheck check("pack_blocks");
  check.that(!parts.empty(), "at least one part");
  for (const BlockMatrix& part : parts) {
    const BlockLayout layout = block_layout(part.format);
    check.that(part.data != nullptr && part.num_rows >= 1 && part.num_columns >= 1,
               "parts of at least one number");
    check.that(part.num_columns == parts.front().num_columns, "parts of one width");
    check.that(part.num_columns % layout.num_elements == 0,
               "rows of whole " + std::string(layout.name) + " blocks");
  }
}

void verify_fp8_parts(std::span<const Fp8Matrix> parts) {
  const TensorCheck check("pack_fp8");
  check.that(!parts.empty(), "at least one part");
  for (const Fp8Matrix& part : parts) {
    check.that(part.num_rows >= 1 && part.num_columns >= 1 && part.tile_rows >= 1 &&
                   part.tile_columns >= 1,
               "parts of at least one number, in tiles");
    check.that(part.num_columns == parts.front().num_columns, "parts of one width");
    check.that(static_cast<int64_t>(part.codes.size()) == part.num_rows * part.num_columns,
               "a code for every number");
    check.that(
        static_cast<int64_t>(part.scales.size()) == part.num_row_tiles() * part.num_column_tiles(),
        "a scale for every tile");
  }
}

}  // namespace quire
