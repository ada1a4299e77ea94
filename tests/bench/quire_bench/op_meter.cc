#include "tests/bench/quire_bench/op_meter.h"

#include <algorithm>

namespace quire::bench {
namespace {

constexpr double kKeyAndValue = 2;

/// Key and value of one token and KV head, and their scales where they have some.
double kv_token_bytes(const PagedKvView& kv) {
  const int64_t scale_bytes = kv.is_int8() ? element_bytes(kv.k_scales.dtype) : 0;
  return kKeyAndValue *
         static_cast<double>(kv.head_dim() * element_bytes(kv.k.dtype) + scale_bytes);
}

}  // namespace

std::string_view op_name(OpKind op) {
  constexpr std::array<std::string_view, kNumOps> kNames = {
      "embedding",      "matmul",         "add_bias",    "rms_norm",   "head_norm",
      "rope",           "append_kv",      "seal_blocks", "seal_units", "moba_gate",
      "moba_attention", "full_attention", "silu_mul",    "sample"};
  return kNames.at(static_cast<size_t>(op));
}

void MeteredBackend::start_counting() {
  work_ = {};
  is_counting_ = true;
}

OpWork MeteredBackend::stop_counting() {
  is_counting_ = false;
  return work_;
}

void MeteredBackend::embedding(const EmbeddingParams& p) {
  time(OpKind::kEmbedding, [&] { inner().embedding(p); });
}
void MeteredBackend::matmul(const MatmulParams& p) {
  time(OpKind::kMatmul, [&] { inner().matmul(p); });
  if (is_counting_) count(p);
}
void MeteredBackend::add_bias(const AddBiasParams& p) {
  time(OpKind::kAddBias, [&] { inner().add_bias(p); });
}
void MeteredBackend::head_norm(const HeadNormParams& p) {
  time(OpKind::kHeadNorm, [&] { inner().head_norm(p); });
}
void MeteredBackend::rms_norm(const RmsNormParams& p) {
  time(OpKind::kRmsNorm, [&] { inner().rms_norm(p); });
}
void MeteredBackend::rope_table(const RopeTableParams& p) {
  time(OpKind::kRope, [&] { inner().rope_table(p); });
}
void MeteredBackend::rope(const RopeParams& p) {
  time(OpKind::kRope, [&] { inner().rope(p); });
}
void MeteredBackend::append_kv(const AppendKvParams& p) {
  time(OpKind::kAppendKv, [&] { inner().append_kv(p); });
}
void MeteredBackend::seal_blocks(const SealBlocksParams& p) {
  time(OpKind::kSealBlocks, [&] { inner().seal_blocks(p); });
}
void MeteredBackend::seal_units(const SealUnitsParams& p) {
  time(OpKind::kSealUnits, [&] { inner().seal_units(p); });
}
void MeteredBackend::moba_gate(const MobaGateParams& p) {
  time(OpKind::kMobaGate, [&] { inner().moba_gate(p); });
  if (is_counting_) count(p);
}
void MeteredBackend::moba_attention(const MobaAttentionParams& p) {
  time(OpKind::kMobaAttention, [&] { inner().moba_attention(p); });
  if (is_counting_) count(p);
}
void MeteredBackend::full_attention(const FullAttentionParams& p) {
  time(OpKind::kFullAttention, [&] { inner().full_attention(p); });
  if (is_counting_) count(p);
}
void MeteredBackend::silu_mul(const SiluMulParams& p) {
  time(OpKind::kSiluMul, [&] { inner().silu_mul(p); });
}
void MeteredBackend::sample(const SampleParams& p) {
  time(OpKind::kSample, [&] { inner().sample(p); });
}

std::vector<int32_t> MeteredBackend::read(const ConstTensorView& view) {
  QUIRE_CHECK(view.is_contiguous() && view.dtype == DType::kI32) << "cannot be counted";
  std::vector<int32_t> values(static_cast<size_t>(view.num_elements()));
  inner().download(view.data, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<MeteredBackend::Rows> MeteredBackend::read_rows(const RaggedBatchView& batch) {
  const std::vector<int32_t> bounds = read(batch.cu_query_lens);
  const std::vector<int32_t> kv_lens = read(batch.kv_lens);
  std::vector<Rows> rows;
  for (size_t s = 0; s < kv_lens.size(); ++s) {
    rows.push_back({bounds[s], bounds[s + 1], kv_lens[s]});
  }
  return rows;
}

void MeteredBackend::count(const MatmulParams& p) {
  const auto rows = static_cast<double>(p.a.shape[0]);
  const double weights =
      static_cast<double>(p.weight->num_rows()) * static_cast<double>(p.weight->num_columns());
  work_.linear_flops += 2 * rows * weights;
  work_.weight_bytes += static_cast<double>(p.weight->value_bytes());
}

void MeteredBackend::count(const MobaGateParams& p) {
  const std::vector<int32_t> top_k = read(p.top_k);
  const std::vector<Rows> sequences = read_rows(p.batch);
  const auto num_heads = static_cast<double>(p.query.shape[1]);
  const auto digest_dim = static_cast<double>(p.kv.digest_dim());
  for (size_t s = 0; s < sequences.size(); ++s) {
    const Rows& rows = sequences[s];
    std::array<int64_t, SelectionSchedule::kMaxStages + 1> most_scored{};  // by stage, none first
    for (int32_t row = rows.first_row; row < rows.end_row; ++row) {
      const SelectionSchedule::Rule rule = p.schedule.rule_at(rows.position(row), top_k[s]);
      const int64_t own_unit = rows.position(row) / (rule.group * p.kv.block_size());
      if (own_unit <= rule.top_k - 1) continue;  // everything is selected, no centroid is read
      work_.gate_flops += 2 * num_heads * digest_dim * static_cast<double>(own_unit);
      int64_t& most = most_scored[static_cast<size_t>(rule.stage + 1)];
      most = std::max(most, own_unit);
    }
    for (const int64_t most : most_scored) {
      work_.centroid_bytes += static_cast<double>(most * p.kv.num_kv_heads()) * digest_dim *
                              static_cast<double>(element_bytes(p.kv.centroids.dtype));
    }
  }
}

void MeteredBackend::count(const MobaAttentionParams& p) {
  const std::vector<int32_t> selected = read(p.selected);
  const int64_t num_heads = p.query.shape[1], max_top_k = p.selected.shape[2];
  const int64_t group_size = num_heads / p.kv.num_kv_heads();
  const auto block_size = static_cast<int32_t>(p.kv.block_size());
  int64_t attended_keys = 0;  // summed over query heads
  int64_t read_keys = 0;      // distinct, summed over KV heads
  for (const Rows& rows : read_rows(p.batch)) {
    const auto num_blocks = static_cast<size_t>((rows.kv_len - 1) / block_size + 1);
    for (int64_t kv_head = 0; kv_head < p.kv.num_kv_heads(); ++kv_head) {
      std::vector<bool> is_read(num_blocks);
      for (int32_t row = rows.first_row; row < rows.end_row; ++row) {
        const int32_t position = rows.position(row);
        const int32_t* entry =
            selected.data() + (row * num_heads + kv_head * group_size) * max_top_k;
        for (int64_t i = 0; i < group_size * max_top_k; ++i) {
          if (entry[i] < 0) continue;
          attended_keys += std::min(block_size, position + 1 - entry[i] * block_size);
          is_read[static_cast<size_t>(entry[i])] = true;
        }
      }
      for (size_t block = 0; block < num_blocks; ++block) {
        const int32_t rest = rows.kv_len - static_cast<int32_t>(block) * block_size;
        if (is_read[block]) read_keys += std::min(block_size, rest);
      }
    }
  }
  const auto head_dim = static_cast<double>(p.kv.head_dim());
  work_.attention_flops += 4 * head_dim * static_cast<double>(attended_keys);
  work_.kv_bytes += kv_token_bytes(p.kv) * static_cast<double>(read_keys);
}

void MeteredBackend::count(const FullAttentionParams& p) {
  const auto num_heads = static_cast<double>(p.query.shape[1]);
  const auto num_kv_heads = static_cast<double>(p.kv.num_kv_heads());
  const auto head_dim = static_cast<double>(p.kv.head_dim());
  for (const Rows& rows : read_rows(p.batch)) {
    const double num_rows = rows.end_row - rows.first_row;
    const double first_pos = rows.kv_len - num_rows;
    // Positions first_pos .. kv_len - 1 attend to position + 1 keys each, or to those of a window.
    const double window = p.window == 0 ? rows.kv_len : p.window;
    const double num_growing = std::clamp(window - first_pos, 0.0, num_rows);
    const double keys =
        num_growing * (2 * first_pos + num_growing + 1) / 2 + (num_rows - num_growing) * window;
    work_.attention_flops += 4 * num_heads * head_dim * keys;
    work_.kv_bytes +=
        kv_token_bytes(p.kv) * num_kv_heads * std::min<double>(rows.kv_len, window + num_rows - 1);
  }
}

}  // namespace quire::bench
