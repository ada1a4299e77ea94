// The op contracts stay usable from device code: every view and every Params must be a trivially
// copyable value that can be a kernel argument. Defines nothing.

#include <type_traits>

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

namespace quire {
namespace {

// The limit of kernel parameters on every architecture we compile for.
constexpr size_t kMaxKernelArgumentBytes = 4096;

template <class... Params>
constexpr bool are_kernel_arguments() {
  return (... &&
          (std::is_trivially_copyable_v<Params> && sizeof(Params) <= kMaxKernelArgumentBytes));
}

static_assert(are_kernel_arguments<TensorView, ConstTensorView, PagedKvView, RaggedBatchView>());
static_assert(are_kernel_arguments<
              AddBiasParams, AppendKvParams, EmbeddingParams, FullAttentionParams, HeadNormParams,
              MatmulParams, MobaAttentionParams, MobaGateParams, RmsNormParams, RopeParams,
              RopeTableParams, SampleParams, SealBlocksParams, SealUnitsParams, SiluMulParams>());

}  // namespace
}  // namespace quire
