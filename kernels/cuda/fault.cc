#include "kernels/cuda/fault.h"

namespace quire::cuda {

const char* op_name(OpId op) {
  switch (op) {
    case OpId::kNone:
      return "no op";
    case OpId::kMemory:
      return "memory";
    case OpId::kEmbedding:
      return "embedding";
    case OpId::kMatmul:
      return "matmul";
    case OpId::kAddBias:
      return "add_bias";
    case OpId::kHeadNorm:
      return "head_norm";
    case OpId::kRmsNorm:
      return "rms_norm";
    case OpId::kRopeTable:
      return "rope_table";
    case OpId::kRope:
      return "rope";
    case OpId::kAppendKv:
      return "append_kv";
    case OpId::kSealBlocks:
      return "seal_blocks";
    case OpId::kSealUnits:
      return "seal_units";
    case OpId::kMobaGate:
      return "moba_gate";
    case OpId::kMobaAttention:
      return "moba_attention";
    case OpId::kFullAttention:
      return "full_attention";
    case OpId::kSiluMul:
      return "silu_mul";
    case OpId::kSample:
      return "sample";
    case OpId::kDecodeStep:
      return "decode step";
  }
  return "?";
}

std::string describe(const Fault& fault) {
  const std::string a = std::to_string(fault.values[0]), b = std::to_string(fault.values[1]),
                    c = std::to_string(fault.values[2]);
  std::string text = std::string(op_name(fault.op)) + ": ";
  switch (fault.kind) {
    case FaultKind::kNone:
      return text + "no fault";
    case FaultKind::kToken:
      return text + "token " + a + " of " + b;
    case FaultKind::kRopeSet:
      return text + "rope set " + a + " of " + b;
    case FaultKind::kSlot:
      return text + "slot " + a + " of " + b;
    case FaultKind::kBlock:
      return text + "block id " + a + " of " + b;
    case FaultKind::kRows:
      return text + "rows [" + a + ", " + b + "), kv_len " + c;
    case FaultKind::kTopK:
      return text + "top_k " + a + " in units of " + b + " blocks, room for " + c;
    case FaultKind::kSelection:
      return text + "selected block " + a + " after " + b + ", current " + c;
    case FaultKind::kCurrentNotLast:
      return text + "the last selected block is " + a + ", the current one " + b;
  }
  return text + "?";
}

}  // namespace quire::cuda
