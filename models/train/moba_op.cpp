// Block-sparse causal attention for training on a CPU: every query row attends to its own block and to the blocks
// that `sel` names, key block by key block, so that each product is one dense bf16 GEMM over gathered query rows.
#include <torch/extension.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

using torch::Tensor;

constexpr int64_t kRowQuantum = 256;  // few distinct shapes: the GEMM library compiles a kernel for each

/// Rows that read block `j`: all of the block's own, then every later one that selected it, then the zero row
/// (index tokens * ratio) up to a multiple of kRowQuantum.
Tensor rows_of_block(const bool* sel, int64_t j, int64_t block, int64_t tokens, int64_t blocks, int64_t ratio) {
  std::vector<int64_t> rows;
  for (int64_t t = j * block; t < (j + 1) * block; ++t)
    for (int64_t h = 0; h < ratio; ++h) rows.push_back(t * ratio + h);
  for (int64_t t = (j + 1) * block; t < tokens; ++t)
    for (int64_t h = 0; h < ratio; ++h)
      if (sel[(h * tokens + t) * blocks + j]) rows.push_back(t * ratio + h);
  rows.resize((rows.size() + kRowQuantum - 1) / kRowQuantum * kRowQuantum, tokens * ratio);
  return torch::tensor(rows, torch::kInt64);
}

/// [tokens, ratio, d] of one sequence and group as contiguous bf16 rows, and a row of zeros.
Tensor group_rows(const Tensor& x, int64_t s, int64_t g, int64_t ratio) {
  const Tensor rows = x[s].narrow(1, g * ratio, ratio).to(torch::kBFloat16).reshape({-1, x.size(3)});
  return torch::cat({rows, torch::zeros({1, x.size(3)}, rows.options())});
}

float widen(c10::BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16); }

/// Rounds to the nearest bf16, ties to even; not for NaN.
c10::BFloat16 narrow(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return c10::BFloat16(static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16), c10::BFloat16::from_bits());
}

/// e^x for x <= 0, within 3e-6 of it, and 0 below -87; without branches, so that a loop over it is one of vectors.
float exp_negative(float x) {
  const float clamped = std::max(x, -87.0f);
  const float whole = std::floor(clamped * 1.44269504f + 0.5f);
  const float rest = clamped - whole * 0.69314718f;
  const float e = 1 + rest * (1 + rest * (0.5f + rest * (0.16666667f + rest * (0.041666668f + rest * 0.008333334f))));
  const float power = std::bit_cast<float>((static_cast<int32_t>(whole) + 127) << 23);
  return x < -87.0f ? 0.0f : e * power;
}

void add_rows(float* out, const Tensor& rows, const Tensor& part) {
  const int64_t* row = rows.data_ptr<int64_t>();
  const auto* in = part.data_ptr<c10::BFloat16>();
  const int64_t m = part.size(0), d = part.size(1);
  for (int64_t i = 0; i < m; ++i) {
    float* to = out + row[i] * d;
    for (int64_t c = 0; c < d; ++c) to[c] += widen(in[i * d + c]);
  }
}

}  // namespace

/// q [S,T,H,d], k and v [S,T,G,d], sel bool [S,H,T,T/block] (strictly past blocks). Returns out, lse [S,T,H], and the
/// tiles (rows, probs alternating) that the backward pass needs.
std::vector<Tensor> forward(Tensor q, Tensor k, Tensor v, Tensor sel, int64_t block) {
  const int64_t S = q.size(0), T = q.size(1), H = q.size(2), d = q.size(3), G = k.size(2), n = T / block, ratio = H / G;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  Tensor out = torch::zeros({S, G, T * ratio + 1, d}), lse = torch::empty({S, G, T * ratio});
  std::vector<Tensor> saved(2 * S * G * n);
  at::parallel_for(0, S * G, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      at::NoGradGuard no_grad;
      const int64_t s = job / G, g = job % G;
      const bool* chosen = sel.data_ptr<bool>() + (s * H + g * ratio) * T * n;
      const Tensor Q = group_rows(q, s, g, ratio), K = group_rows(k, s, g, 1), V = group_rows(v, s, g, 1);
      std::vector<float> peak(T * ratio + 1, std::numeric_limits<float>::lowest()), sum(T * ratio + 1, 0.0f);
      std::vector<Tensor> scores(n), rows(n);
      for (int64_t j = 0; j < n; ++j) {
        rows[j] = rows_of_block(chosen, j, block, T, n, ratio);
        scores[j] = at::mm(Q.index_select(0, rows[j]), K.narrow(0, j * block, block).t());
        const auto* x = scores[j].data_ptr<c10::BFloat16>();
        const int64_t* row = rows[j].data_ptr<int64_t>();
        for (int64_t i = 0; i < rows[j].size(0); ++i, x += block) {
          const int64_t seen = i < block * ratio ? i / ratio + 1 : block;  // causal inside the own block
          float top = peak[row[i]];
          for (int64_t c = 0; c < seen; ++c) top = std::max(top, widen(x[c]));
          peak[row[i]] = top;
        }
      }
      // exp(score - peak) in place of the scores, and the sums that norm it.
      for (int64_t j = 0; j < n; ++j) {
        auto* x = scores[j].data_ptr<c10::BFloat16>();
        const int64_t* row = rows[j].data_ptr<int64_t>();
        for (int64_t i = 0; i < rows[j].size(0); ++i, x += block) {
          const int64_t seen = i < block * ratio ? i / ratio + 1 : block;
          const float top = peak[row[i]];
          float part = 0.0f;
          for (int64_t c = 0; c < block; ++c) {
            const float e = c < seen ? exp_negative((widen(x[c]) - top) * scale) : 0.0f;
            part += e;
            x[c] = narrow(e);
          }
          sum[row[i]] += part;
        }
      }
      float* L = lse.data_ptr<float>() + job * T * ratio;
      for (int64_t r = 0; r < T * ratio; ++r) L[r] = peak[r] * scale + std::log(sum[r]);
      for (int64_t j = 0; j < n; ++j) {
        auto* x = scores[j].data_ptr<c10::BFloat16>();
        const int64_t* row = rows[j].data_ptr<int64_t>();
        for (int64_t i = 0; i < rows[j].size(0); ++i, x += block) {
          const float inverse = 1.0f / sum[row[i]];
          for (int64_t c = 0; c < block; ++c) x[c] = narrow(widen(x[c]) * inverse);
        }
        add_rows(out.data_ptr<float>() + job * (T * ratio + 1) * d, rows[j],
                 at::mm(scores[j], V.narrow(0, j * block, block)));
        saved[2 * (job * n + j)] = rows[j];
        saved[2 * (job * n + j) + 1] = scores[j];
      }
    }
  });
  std::vector<Tensor> result = {
      out.narrow(2, 0, T * ratio).reshape({S, G, T, ratio, d}).permute({0, 2, 1, 3, 4}).reshape({S, T, H, d}),
      lse.view({S, G, T, ratio}).permute({0, 2, 1, 3}).reshape({S, T, H})};
  result.insert(result.end(), saved.begin(), saved.end());
  return result;
}

/// delta = rowsum(dout * out) - dlse, [S,T,H]. Returns dq, dk, dv.
std::vector<Tensor> backward(Tensor q, Tensor k, Tensor v, Tensor dout, Tensor delta, std::vector<Tensor> saved,
                             int64_t block) {
  const int64_t S = q.size(0), T = q.size(1), H = q.size(2), d = q.size(3), G = k.size(2), n = T / block, ratio = H / G;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  Tensor dq = torch::zeros({S, G, T * ratio + 1, d}), dk = torch::empty({S, G, T, d}), dv = torch::empty({S, G, T, d});
  at::parallel_for(0, S * G, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      at::NoGradGuard no_grad;
      const int64_t s = job / G, g = job % G;
      const Tensor Q = group_rows(q, s, g, ratio), K = group_rows(k, s, g, 1), V = group_rows(v, s, g, 1);
      const Tensor dO = group_rows(dout, s, g, ratio);
      const Tensor deltas = torch::cat({delta[s].narrow(1, g * ratio, ratio).reshape({-1}), torch::zeros({1})});
      const float* D = deltas.data_ptr<float>();
      for (int64_t j = 0; j < n; ++j) {
        const Tensor &rows = saved[2 * (job * n + j)], &P = saved[2 * (job * n + j) + 1];
        const Tensor dOj = dO.index_select(0, rows);
        const Tensor dS = at::mm(dOj, V.narrow(0, j * block, block).t());  // dP at first
        auto* x = dS.data_ptr<c10::BFloat16>();
        const auto* p = P.data_ptr<c10::BFloat16>();
        const int64_t* row = rows.data_ptr<int64_t>();
        for (int64_t i = 0; i < rows.size(0); ++i, x += block, p += block) {
          const float Di = D[row[i]];
          for (int64_t c = 0; c < block; ++c) x[c] = narrow((widen(x[c]) - Di) * widen(p[c]) * scale);
        }
        add_rows(dq.data_ptr<float>() + job * (T * ratio + 1) * d, rows, at::mm(dS, K.narrow(0, j * block, block)));
        dk[s][g].narrow(0, j * block, block).copy_(at::mm(dS.t(), Q.index_select(0, rows)));
        dv[s][g].narrow(0, j * block, block).copy_(at::mm(P.t(), dOj));
      }
    }
  });
  return {dq.narrow(2, 0, T * ratio).reshape({S, G, T, ratio, d}).permute({0, 2, 1, 3, 4}).reshape({S, T, H, d}),
          dk.permute({0, 2, 1, 3}).contiguous(), dv.permute({0, 2, 1, 3}).contiguous()};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward, py::call_guard<py::gil_scoped_release>());
  m.def("backward", &backward, py::call_guard<py::gil_scoped_release>());
}
