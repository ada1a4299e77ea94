#include "kernels/ops/full_attention.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/reference/attend_row.h"
#include "kernels/reference/reference_backend.h"

namespace quire::reference {

void full_attention(const FullAttentionParams& params) {
  const RowAttention attention(params.query, params.kv, params.batch, params.softmax_scale);
  for_each_query_row(params.batch, [&](int64_t seq, int64_t row, int64_t position) {
    const int64_t first =
        params.window == 0 ? 0 : std::max<int64_t>(0, position - params.window + 1);
    std::vector<int64_t> positions(static_cast<size_t>(position - first) + 1);
    std::iota(positions.begin(), positions.end(), first);
    for (int64_t head = 0; head < params.query.shape[1]; ++head) {
      attention.attend(seq, row, head, positions, params.out);
    }
  });
}

}  // namespace quire::reference
