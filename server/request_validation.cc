#include "server/request_validation.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "engine/text/utf8.h"
#include "models/generation_config.h"

namespace quire {
namespace {

constexpr int64_t kBytesPerToken = 3;
constexpr size_t kMaxStopStrings = 4;
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxStopTokens = 64;
constexpr size_t kMaxLogitBias = 4096;
constexpr int64_t kMaxPriority = 1'000'000;
constexpr int64_t kMaxTopLogprobs = 20;
constexpr double kMaxTimeoutSeconds = 7 * 86400;
constexpr size_t kMaxQuotedBytes = 256;  // of a model's name in a complaint

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

/// Such a request can never run. Told to wait for room in the queue, a client would come back
/// forever.
Status check_context(const GenerateRequest& request, const ServiceConfig& config) {
  const int64_t num_wanted = request.max_tokens.value_or(0);
  if (num_wanted <= config.max_model_len) return {};
  return invalid_argument("This model's maximum context length is " +
                              std::to_string(config.max_model_len) +
                              " tokens. However, you requested " + std::to_string(num_wanted) +
                              " in the completion alone (max_tokens).",
                          "max_tokens", "context_length_exceeded");
}

/// Collects the first violation.
class Checker {
 public:
  void in_range(const char* param, double value, double low, double high) {
    if (value >= low && value <= high) return;  // false for NaN
    fail(param, std::string(param) + " must be between " + number_text(low) + " and " +
                    number_text(high) + ", not " + number_text(value));
  }
  void in_range(const char* param, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return;
    fail(param, std::string(param) + " must be between " + std::to_string(low) + " and " +
                    std::to_string(high) + ", not " + std::to_string(value));
  }
  void above_zero(const char* param, double value, double high) {
    in_range(param, value, 0.0, high);
    that(is_above_zero(value), param, std::string(param) + " must be greater than 0");
  }
  void that(bool condition, const char* param, const std::string& message) {
    if (!condition) fail(param, message);
  }
  const Status& status() const { return status_; }

 private:
  void fail(const char* param, std::string message) {
    if (status_.ok()) status_ = invalid_argument(std::move(message), param);
  }
  Status status_;
};

void check_messages(Checker& check, const std::vector<ChatMessage>& messages) {
  check.that(!messages.empty(), "messages", "messages must hold at least one message");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (is_chat_role(messages[i].role)) continue;
    const std::string param = "messages[" + std::to_string(i) + "].role";
    check.that(false, param.c_str(), param + " must be system, developer, user, assistant or tool");
    return;
  }
}

void check_input(Checker& check, const GenerateRequest& request, int32_t vocab_size) {
  if (const auto* chat = std::get_if<GenerateRequest::ChatInput>(&request.input)) {
    check_messages(check, chat->messages);
  } else if (const auto* text = std::get_if<GenerateRequest::TextInput>(&request.input)) {
    check.that(!text->prompts.empty(), "prompt", "prompt must not be empty");
  } else {
    const auto& prompts = std::get<GenerateRequest::TokenInput>(request.input).prompts;
    check.that(!prompts.empty(), "prompt", "prompt must hold at least one token");
    for (const auto& prompt : prompts) {
      check.that(!prompt.empty(), "prompt", "prompt must hold at least one token");
      const bool in_vocabulary = std::ranges::all_of(
          prompt, [&](TokenId token) { return token >= 0 && token < vocab_size; });
      check.that(in_vocabulary, "prompt",
                 "prompt has a token id outside the vocabulary of " + std::to_string(vocab_size));
    }
  }
}

void check_stops(Checker& check, const GenerateRequest& request, int32_t vocab_size) {
  check.that(request.stop.size() <= kMaxStopStrings, "stop", "stop may hold at most 4 strings");
  for (const std::string& stop : request.stop) {
    check.that(!stop.empty() && stop.size() <= kMaxStopBytes, "stop",
               "a stop string must have between 1 and 1024 bytes");
  }
  check.that(request.stop_token_ids.size() <= kMaxStopTokens, "stop_token_ids",
             "stop_token_ids may hold at most 64 ids");
  for (const int64_t token : request.stop_token_ids) {
    check.in_range("stop_token_ids", token, int64_t{0}, int64_t{vocab_size} - 1);
  }
}

void check_sampling(Checker& check, const GenerateRequest& request, int32_t vocab_size) {
  if (request.temperature) {
    check.in_range("temperature", *request.temperature, 0.0, kMaxTemperature);
  }
  if (request.top_p) check.above_zero("top_p", *request.top_p, kMaxTopP);
  if (request.top_k) {
    check.in_range("top_k", *request.top_k, int64_t{kNoTopK}, int64_t{kLargestTopK});
  }
  if (request.min_p) check.in_range("min_p", *request.min_p, 0.0, kMaxMinP);
  check.in_range("presence_penalty", request.presence_penalty, -2.0, 2.0);
  check.in_range("frequency_penalty", request.frequency_penalty, -2.0, 2.0);
  if (request.repetition_penalty) {
    check.above_zero("repetition_penalty", *request.repetition_penalty, kMaxRepetitionPenalty);
  }
  if (request.top_logprobs) {
    check.in_range("top_logprobs", *request.top_logprobs, int64_t{0}, kMaxTopLogprobs);
  }
  check.that(request.logit_bias.size() <= kMaxLogitBias, "logit_bias",
             "logit_bias may hold at most 4096 tokens");
  for (const auto& [token, bias] : request.logit_bias) {
    check.that(token >= 0 && token < vocab_size, "logit_bias",
               "logit_bias has token id " + std::to_string(token) + " outside the vocabulary of " +
                   std::to_string(vocab_size));
    check.in_range("logit_bias", bias, -100.0, 100.0);
  }
}

bool is_own_name(const ServiceConfig& config, const std::string& model) {
  return model == config.model_name ||
         std::ranges::find(config.model_aliases, model) != config.model_aliases.end();
}

}  // namespace

Status check_served(const ServiceConfig& config, const std::string& model) {
  if (config.accepts_any_model || model.empty() || is_own_name(config, model)) return {};
  return Status(StatusCode::kNotFound,
                "the model '" + shortened(model, kMaxQuotedBytes) + "' does not exist", "model",
                "model_not_found");
}

const std::string& name_in_answer(const ServiceConfig& config, const std::string& model) {
  return is_own_name(config, model) ? model : config.model_name;
}

int64_t num_choices(const GenerateRequest& request) {
  int64_t num_prompts = 1;
  if (const auto* text = std::get_if<GenerateRequest::TextInput>(&request.input)) {
    num_prompts = static_cast<int64_t>(text->prompts.size());
  } else if (const auto* ids = std::get_if<GenerateRequest::TokenInput>(&request.input)) {
    num_prompts = static_cast<int64_t>(ids->prompts.size());
  }
  int64_t product = 0;
  if (!__builtin_mul_overflow(request.n, num_prompts, &product)) return product;
  return request.n > 0 ? INT64_MAX : INT64_MIN;
}

int64_t estimate_tokens(const GenerateRequest& request) {
  int64_t num_tokens = 1;
  if (const auto* chat = std::get_if<GenerateRequest::ChatInput>(&request.input)) {
    for (const ChatMessage& message : chat->messages) {
      num_tokens +=
          static_cast<int64_t>(message.content.size() + message.more_json.size()) / kBytesPerToken +
          1;
    }
    num_tokens += static_cast<int64_t>(chat->options.tools_json.size()) / kBytesPerToken;
  } else if (const auto* text = std::get_if<GenerateRequest::TextInput>(&request.input)) {
    for (const std::string& prompt : text->prompts) {
      num_tokens += static_cast<int64_t>(prompt.size()) / kBytesPerToken;
    }
  } else {
    for (const auto& prompt : std::get<GenerateRequest::TokenInput>(request.input).prompts) {
      num_tokens += static_cast<int64_t>(prompt.size());
    }
  }
  return num_tokens + num_choices(request) * request.max_tokens.value_or(0);
}

Status validate(const GenerateRequest& request, const ServiceConfig& config, int32_t vocab_size) {
  Checker check;
  check.in_range("n", request.n, int64_t{1}, int64_t{config.max_choices});
  if (!check.status().ok()) return check.status();
  check_input(check, request, vocab_size);
  check.that(num_choices(request) <= config.max_choices, "n",
             "n times the number of prompts must not exceed " + std::to_string(config.max_choices));
  if (request.max_tokens) {
    check.in_range("max_tokens", *request.max_tokens, int64_t{1}, int64_t{kLargestMaxTokens});
  }
  check.in_range("min_tokens", request.min_tokens, int64_t{0}, int64_t{1} << 30);
  check.that(!request.max_tokens || request.min_tokens <= *request.max_tokens, "min_tokens",
             "min_tokens must not exceed max_tokens");
  check_stops(check, request, vocab_size);
  check_sampling(check, request, vocab_size);
  if (request.attention_mode) {
    const std::string& mode = *request.attention_mode;
    check.that(mode == "auto" || mode == "moba" || mode == "full", "attention.mode",
               "attention.mode must be auto, moba or full");
  }
  if (request.attention_top_k) {
    check.in_range("attention.top_k", *request.attention_top_k, int64_t{1},
                   int64_t{config.max_top_k});
  }
  check.in_range("priority", request.priority, -kMaxPriority, kMaxPriority);
  if (request.timeout_seconds) {
    check.in_range("timeout", *request.timeout_seconds, 0.001, kMaxTimeoutSeconds);
  }
  return check.status().ok() ? check_context(request, config) : check.status();
}

}  // namespace quire
