#include "engine/request_check.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>

namespace quire {
namespace {

Status check_tokens(std::span<const TokenId> tokens, int32_t vocab_size, const char* param) {
  const auto outside = [=](TokenId token) { return token < 0 || token >= vocab_size; };
  const auto bad = std::find_if(tokens.begin(), tokens.end(), outside);
  if (bad == tokens.end()) return {};
  return invalid_argument("token id " + std::to_string(*bad) + " is outside the vocabulary of " +
                              std::to_string(vocab_size) + " tokens",
                          param);
}

Status check_lengths(const EngineRequest& request, const EngineConfig& config) {
  if (request.prompt.empty()) return invalid_argument("the prompt has no tokens", "prompt");
  if (request.max_new_tokens < 1) {
    return invalid_argument(
        "max_tokens must be at least 1, not " + std::to_string(request.max_new_tokens),
        "max_tokens");
  }
  if (request.min_new_tokens < 0 || request.min_new_tokens > request.max_new_tokens) {
    return invalid_argument("min_tokens must be between 0 and max_tokens (" +
                                std::to_string(request.max_new_tokens) + "), not " +
                                std::to_string(request.min_new_tokens),
                            "min_tokens");
  }
  const auto num_prompt = static_cast<int64_t>(request.prompt.size());
  if (num_prompt + request.max_new_tokens > config.max_model_len) {
    return invalid_argument("the prompt's " + std::to_string(num_prompt) +
                                " tokens and max_tokens " + std::to_string(request.max_new_tokens) +
                                " make " + std::to_string(num_prompt + request.max_new_tokens) +
                                "; the model's context is " + std::to_string(config.max_model_len) +
                                " tokens",
                            "prompt", "context_length_exceeded");
  }
  return {};
}

}  // namespace

Status check_request(const EngineRequest& request, const EngineConfig& config) {
  if (Status lengths = check_lengths(request, config); !lengths.ok()) return lengths;
  const auto& top_k = request.attention.top_k;
  if (top_k && (*top_k < 1 || *top_k > config.max_top_k)) {
    return invalid_argument("attention.top_k must be between 1 and " +
                                std::to_string(config.max_top_k) + ", not " +
                                std::to_string(*top_k),
                            "attention.top_k");
  }
  if (Status prompt = check_tokens(request.prompt, config.vocab_size, "prompt"); !prompt.ok()) {
    return prompt;
  }
  for (const auto& [token, bias] : request.sampling.logit_bias) {
    if (Status one = check_tokens({&token, 1}, config.vocab_size, "logit_bias"); !one.ok()) {
      return one;
    }
  }
  return check_tokens(request.stop_token_ids, config.vocab_size, "stop_token_ids");
}

void check_config(const EngineConfig& config) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw std::invalid_argument(what);
  };
  const auto at_least_one = [&](int64_t value, const char* name) {
    require(value >= 1, std::string(name) + " must be at least 1, not " + std::to_string(value));
  };
  at_least_one(config.moba.block_size, "moba.block_size");
  at_least_one(config.moba.top_k, "moba.top_k");
  at_least_one(config.moba.top_k_of_decode(), "moba.decode_top_k");
  at_least_one(config.num_layers, "num_layers");
  at_least_one(config.vocab_size, "vocab_size");
  at_least_one(config.max_model_len, "max_model_len");
  at_least_one(config.num_blocks, "num_blocks");
  require(config.rope_switch_len >= 0, "rope_switch_len must not be negative");
  at_least_one(config.max_num_seqs, "max_num_seqs");
  at_least_one(config.max_step_tokens, "max_step_tokens");
  at_least_one(config.max_top_k, "max_top_k");
  require(config.max_step_seconds >= 0, "max_step_seconds must not be negative");
  require(config.max_step_tokens >= config.max_num_seqs,
          "max_step_tokens (" + std::to_string(config.max_step_tokens) +
              ") must be at least max_num_seqs (" + std::to_string(config.max_num_seqs) +
              "): every running sequence decodes in every step");
  const int64_t pool_tokens = int64_t{config.num_blocks} * config.moba.block_size;
  require(pool_tokens >= config.max_model_len, "the KV pool holds " + std::to_string(pool_tokens) +
                                                   " tokens, one sequence may need " +
                                                   std::to_string(config.max_model_len));
}

}  // namespace quire
