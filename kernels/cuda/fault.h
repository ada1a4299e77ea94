#pragma once

#include <cstdint>
#include <string>

// Contracts speak of contents too ("every token id is in [0, vocab_size)"), and contents lie in
// device memory. A kernel that meets a bad index reads and writes nothing by it and reports it;
// the report becomes a ContractError at the next synchronize or download.

namespace quire::cuda {

enum class OpId : int32_t {
  kNone,
  kMemory,
  kEmbedding,
  kMatmul,
  kAddBias,
  kRmsNorm,
  kHeadNorm,
  kRopeTable,
  kRope,
  kAppendKv,
  kSealBlocks,
  kSealUnits,
  kMobaGate,
  kMobaAttention,
  kFullAttention,
  kSiluMul,
  kSample,
  kDecodeStep,
};
const char* op_name(OpId op);

enum class FaultKind : int32_t {
  kNone,
  kToken,           // values: id, vocab_size
  kRopeSet,         // set, number of sets
  kSlot,            // slot, number of slots
  kBlock,           // block id, number of blocks
  kRows,            // first row, end row, kv_len
  kTopK,            // top_k, blocks of a unit, max_selected
  kSelection,       // selected block, the one before it, current block
  kCurrentNotLast,  // last selected block, current block
};

/// The first bad index since the last check. Zero-initialised: none.
struct Fault {
  FaultKind kind;
  OpId op;
  int64_t values[3];
};

/// Where the kernels of one op report.
struct FaultSink {
  Fault* record;
  OpId op;
};

/// "embedding: token 70000 of 65536"
std::string describe(const Fault& fault);

}  // namespace quire::cuda
