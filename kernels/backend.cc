#include "kernels/backend.h"

#include "kernels/check.h"

namespace quire {

std::unique_ptr<PackedWeight> Backend::pack_blocks(std::span<const BlockMatrix>) {
  QUIRE_CHECK(false) << "pack_blocks: backend " << name() << " keeps no blocks";
  return nullptr;
}

std::unique_ptr<PackedWeight> Backend::pack_fp8(std::span<const Fp8Matrix>) {
  QUIRE_CHECK(false) << "pack_fp8: backend " << name() << " keeps no FP8";
  return nullptr;
}

}  // namespace quire
