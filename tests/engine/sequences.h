#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/scheduler/sequence.h"

namespace quire {

/// first, first + 1, …: `num_tokens` ids.
inline std::vector<TokenId> ramp(int32_t num_tokens, TokenId first = 0) {
  std::vector<TokenId> tokens(static_cast<size_t>(num_tokens));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

/// A sequence as the engine hands it to the scheduler.
inline std::unique_ptr<Sequence> sequence_of(uint64_t id, std::vector<TokenId> prompt,
                                             int32_t max_new_tokens = 4) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = SequenceId{id};
  sequence->tokens = std::move(prompt);
  sequence->num_prompt_tokens = sequence->num_tokens();
  sequence->request.max_new_tokens = max_new_tokens;
  return sequence;
}

}  // namespace quire
