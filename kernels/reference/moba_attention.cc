#include "kernels/ops/moba_attention.h"

#include <algorithm>
#include <vector>

#include "kernels/reference/attend_row.h"
#include "kernels/reference/reference_backend.h"

namespace quire::reference {

void moba_attention(const MobaAttentionParams& params) {
  const RowAttention attention(params.query, params.kv, params.batch, params.softmax_scale);
  const int64_t block_size = params.kv.block_size(), max_top_k = params.selected.shape[2];
  for_each_query_row(params.batch, [&](int64_t seq, int64_t row, int64_t position) {
    const int64_t current = position / block_size;
    for (int64_t head = 0; head < params.query.shape[1]; ++head) {
      std::vector<int64_t> positions;
      int64_t previous = -1;
      for (int64_t slot = 0; slot < max_top_k; ++slot) {
        const int64_t block = get<int32_t>(params.selected, row, head, slot);
        if (block == -1) break;
        QUIRE_CHECK(block > previous && block <= current)
            << "row " << row << ", head " << head << ": selected block " << block << " after "
            << previous << ", current " << current;
        const int64_t end = std::min(position + 1, (block + 1) * block_size);
        for (int64_t p = block * block_size; p < end; ++p) positions.push_back(p);
        previous = block;
      }
      QUIRE_CHECK(previous == current)
          << "row " << row << ", head " << head << ": the current block is not selected last";
      attention.attend(seq, row, head, positions, params.out);
    }
  });
}

}  // namespace quire::reference
