#include "kernels/ops/full_attention.h"

#include <numeric>
#include <vector>

#include "kernels/reference/attend_row.h"
#include "kernels/reference/reference_backend.h"

namespace quire::reference {

void full_attention(const FullAttentionParams& params) {
  const RowAttention attention(params.query, params.kv, params.batch, params.softmax_scale);
  for_each_query_row(params.batch, [&](int64_t seq, int64_t row, int64_t position) {
    std::vector<int64_t> positions(static_cast<size_t>(position) + 1);
    std::iota(positions.begin(), positions.end(), int64_t{0});
    for (int64_t head = 0; head < params.query.shape[1]; ++head) {
      attention.attend(seq, row, head, positions, params.out);
    }
  });
}

}  // namespace quire::reference
