#include "server/http/openai_parse.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "server/http/openai_messages.h"
#include "server/http/request_fields.h"

namespace quire {
namespace {

using Json = nlohmann::json;

// As for max_tokens; here the complaint can name the field that was given.
constexpr int64_t kMaxCompletionTokens = int64_t{1} << 30;

Status not_supported(const std::string& param, const std::string& what) {
  return invalid_argument(what + " is not supported", param);
}

bool is_filled(const Json& value) { return !value.empty() && value != Json(false); }

/// Refuses fields that would change the answer and that this server cannot honour.
void refuse_unsupported(const RequestFields& fields, Status& status) {
  for (const char* key : {"functions", "evidence", "audio", "web_search_options", "suffix",
                          "chat_template", "guided_json", "guided_regex", "documents"}) {
    const Json* value = fields.find(key);
    if (value != nullptr && is_filled(*value) && status.ok()) status = not_supported(key, key);
  }
  if (const Json* modalities = fields.find("modalities")) {
    if (*modalities != Json::array({"text"}) && status.ok()) {
      status = not_supported("modalities", "a modality other than text");
    }
  }
  if (Json* format = fields.find("response_format")) {
    const std::optional<std::string> type =
        RequestFields(*format, "response_format.", status).text("type");
    if (type != "text" && status.ok()) {
      status = not_supported("response_format.type", "a response_format other than text");
    }
  }
  const std::optional<int64_t> best_of = fields.integer("best_of");
  if (best_of && *best_of != 1 && status.ok()) status = not_supported("best_of", "best_of");
}

void read_stop(const RequestFields& fields, GenerateRequest& request) {
  Json* stop = fields.find("stop");
  if (stop == nullptr) return;
  if (stop->is_string()) {
    request.stop.push_back(stop->get<std::string>());
    return;
  }
  if (!stop->is_array()) return fields.fail("stop", "must be a string or a list of strings");
  for (Json& entry : *stop) {
    if (!entry.is_string()) return fields.fail("stop", "must be a string or a list of strings");
    request.stop.push_back(entry.get<std::string>());
  }
}

void read_logit_bias(const RequestFields& fields, GenerateRequest& request) {
  const Json* biases = fields.find("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object()) return fields.fail("logit_bias", "must be an object");
  for (const auto& [key, bias] : biases->items()) {
    int64_t token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size()) {
      return fields.fail("logit_bias", "has a key that is no token id");
    }
    if (!bias.is_number()) return fields.fail("logit_bias", "must map token ids to numbers");
    request.logit_bias.emplace_back(token, bias.get<double>());
  }
}

void read_attention(const RequestFields& fields, GenerateRequest& request, Status& status) {
  Json* attention = fields.find("attention");
  if (attention == nullptr) return;
  const RequestFields choice(*attention, "attention.", status);
  request.attention_mode = choice.text("mode");
  request.attention_top_k = choice.integer("top_k");
}

void read_sampling(const RequestFields& fields, GenerateRequest& request) {
  request.temperature = fields.number("temperature");
  request.top_p = fields.number("top_p");
  request.min_p = fields.number("min_p");
  request.top_k = fields.integer("top_k");
  request.presence_penalty = fields.number("presence_penalty").value_or(0.0);
  request.frequency_penalty = fields.number("frequency_penalty").value_or(0.0);
  request.repetition_penalty = fields.number("repetition_penalty");
  request.seed = fields.integer("seed");
  read_logit_bias(fields, request);
}

/// Fields that both routes have.
void read_common(const RequestFields& fields, OpenAiRequest& parsed, Status& status) {
  GenerateRequest& request = parsed.request;
  refuse_unsupported(fields, status);
  request.model = fields.text("model").value_or("");
  request.max_tokens = fields.integer("max_tokens");
  request.min_tokens = fields.integer("min_tokens").value_or(0);
  request.n = fields.integer("n").value_or(1);
  read_stop(fields, request);
  request.stop_token_ids = fields.integers("stop_token_ids").value_or(std::vector<int64_t>{});
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  request.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  request.return_token_ids = fields.boolean("return_token_ids").value_or(false);
  request.wants_progress = fields.boolean("return_progress").value_or(false);
  read_sampling(fields, request);
  read_attention(fields, request, status);
  request.priority = fields.integer("priority").value_or(0);
  request.cache_salt = fields.text("cache_salt").value_or("");
  request.prompt_cache_key = fields.text("prompt_cache_key").value_or("");
  parsed.wants_stream = fields.boolean("stream").value_or(false);
  if (Json* options = fields.find("stream_options")) {
    if (!parsed.wants_stream) {
      fields.fail("stream_options", "is only allowed when stream is true");
    }
    parsed.wants_usage_chunk =
        RequestFields(*options, "stream_options.", status).boolean("include_usage").value_or(false);
  }
}

void read_chat_logprobs(const RequestFields& fields, GenerateRequest& request) {
  const bool wants_logprobs = fields.boolean("logprobs").value_or(false);
  const std::optional<int64_t> num_top = fields.integer("top_logprobs");
  if (wants_logprobs) {
    request.top_logprobs = num_top.value_or(0);
  } else if (num_top && *num_top != 0) {
    fields.fail("top_logprobs", "needs logprobs to be true");
  }
}

void read_max_completion_tokens(const RequestFields& fields, GenerateRequest& request) {
  const std::optional<int64_t> max_tokens = fields.integer("max_completion_tokens");
  if (!max_tokens) return;
  if (*max_tokens < 1 || *max_tokens > kMaxCompletionTokens) {
    fields.fail("max_completion_tokens",
                "must be between 1 and " + std::to_string(kMaxCompletionTokens));
  }
  request.max_tokens = max_tokens;
}

/// Ids out of any range stay out of the vocabulary, which is the service's to refuse.
std::optional<std::vector<TokenId>> read_token_ids(const Json& list) {
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (const Json& element : list) {
    const std::optional<int64_t> id = integer_value(element);
    if (!id) return std::nullopt;
    ids.push_back(static_cast<TokenId>(std::clamp<int64_t>(*id, -1, INT32_MAX)));
  }
  return ids;
}

/// "text", ["text", …], [id, …] or [[id, …], …].
void read_prompt(const RequestFields& fields, GenerateRequest& request) {
  constexpr const char* kShapes =
      "must be a string, a list of strings, a list of token ids or a list of such lists";
  Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return fields.fail("prompt", "is required");
  if (prompt->is_string()) {
    request.input =
        GenerateRequest::TextInput{.prompts = {std::move(prompt->get_ref<std::string&>())}};
    return;
  }
  if (!prompt->is_array()) return fields.fail("prompt", kShapes);
  if (prompt->empty()) return fields.fail("prompt", "must not be empty");
  if (prompt->front().is_string()) {
    GenerateRequest::TextInput input;
    for (Json& text : *prompt) {
      if (!text.is_string()) return fields.fail("prompt", kShapes);
      input.prompts.push_back(std::move(text.get_ref<std::string&>()));
    }
    request.input = std::move(input);
    return;
  }
  GenerateRequest::TokenInput input;
  const bool is_list_of_lists = prompt->front().is_array();
  const Json one_list = is_list_of_lists ? Json() : Json::array({std::move(*prompt)});
  for (const Json& list : is_list_of_lists ? *prompt : one_list) {
    std::optional<std::vector<TokenId>> ids;
    if (list.is_array()) ids = read_token_ids(list);
    if (!ids) return fields.fail("prompt", kShapes);
    input.prompts.push_back(std::move(*ids));
  }
  request.input = std::move(input);
}

}  // namespace

Result<OpenAiRequest> parse_chat_request(std::string_view body, const JsonLimits& limits) {
  Result<Json> object = parse_json_object(body, limits);
  if (!object.ok()) return object.status();
  Status status;
  OpenAiRequest parsed;
  parsed.request.is_chat = true;
  const RequestFields fields(object.value(), "", status);
  read_common(fields, parsed, status);
  read_max_completion_tokens(fields, parsed.request);
  read_chat_logprobs(fields, parsed.request);
  parsed.request.input = read_chat_input(fields, body, status);
  if (!status.ok()) return status;
  return parsed;
}

Result<OpenAiRequest> parse_completion_request(std::string_view body, const JsonLimits& limits) {
  Result<Json> object = parse_json_object(body, limits);
  if (!object.ok()) return object.status();
  Status status;
  OpenAiRequest parsed;
  const RequestFields fields(object.value(), "", status);
  read_common(fields, parsed, status);
  GenerateRequest& request = parsed.request;
  request.echo = fields.boolean("echo").value_or(false);
  request.top_logprobs = fields.integer("logprobs");
  if (request.top_logprobs && (*request.top_logprobs < 0 || *request.top_logprobs > 20)) {
    fields.fail("logprobs", "must be between 0 and 20");
  }
  if (request.echo && request.top_logprobs) {
    fields.fail("echo", "together with logprobs is not supported");
  }
  read_prompt(fields, request);
  if (!status.ok()) return status;
  return parsed;
}

Result<TokenizeRequest> parse_tokenize_request(std::string_view body, const JsonLimits& limits) {
  Result<Json> object = parse_json_object(body, limits);
  if (!object.ok()) return object.status();
  Status status;
  const RequestFields fields(object.value(), "", status);
  TokenizeRequest request;
  request.model = fields.text("model").value_or("");
  // A chat template writes the special tokens that it wants.
  const bool is_chat = fields.find("messages") != nullptr;
  request.add_special_tokens = fields.boolean("add_special_tokens").value_or(!is_chat);
  if (is_chat && fields.find("prompt") != nullptr) {
    fields.fail("prompt", "must be absent where messages are given");
  } else if (is_chat) {
    request.input = read_chat_input(fields, body, status);
  } else {
    std::optional<std::string> prompt = fields.text("prompt");
    if (!prompt) fields.fail("prompt", "is required and must be a string");
    request.input = std::move(prompt).value_or("");
  }
  if (!status.ok()) return status;
  return request;
}

Result<DetokenizeRequest> parse_detokenize_request(std::string_view body,
                                                   const JsonLimits& limits) {
  Result<Json> object = parse_json_object(body, limits);
  if (!object.ok()) return object.status();
  Status status;
  const RequestFields fields(object.value(), "", status);
  DetokenizeRequest request;
  request.model = fields.text("model").value_or("");
  std::optional<std::vector<int64_t>> tokens = fields.integers("tokens");
  if (!tokens) fields.fail("tokens", "is required and must be a list of token ids");
  request.tokens = std::move(tokens).value_or(std::vector<int64_t>{});
  if (!status.ok()) return status;
  return request;
}

}  // namespace quire
