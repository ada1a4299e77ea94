#include "kernels/backend.h"

#include "kernels/check.h"

namespace quire {

std::unique_ptr<PackedWeight> Backend::pack_blocks(std::span<const BlockMatrix>) {
  QUIRE_CHECK(false) << "pack_blocks: backend " << name() << " keeps no blocks";
  return nullptr;
}

}  // namespace quire
