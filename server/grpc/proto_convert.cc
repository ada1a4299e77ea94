#include "server/grpc/proto_convert.h"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "server/http/json_text.h"
#include "server/http/openai_messages.h"

namespace quire {
namespace {

using Json = nlohmann::json;

template <class T, class Field>
void assign_if(bool is_present, T& target, Field value) {
  if (is_present) target = value;
}

void read_options(const v1::GenerationOptions& options, GenerateRequest& request) {
  assign_if(options.has_max_tokens(), request.max_tokens, options.max_tokens());
  assign_if(options.has_min_tokens(), request.min_tokens, options.min_tokens());
  assign_if(options.has_n(), request.n, options.n());
  request.stop.assign(options.stop().begin(), options.stop().end());
  request.stop_token_ids.assign(options.stop_token_ids().begin(), options.stop_token_ids().end());
  request.ignore_eos = options.ignore_eos();
  assign_if(options.has_skip_special_tokens(), request.skip_special_tokens,
            options.skip_special_tokens());
  request.return_token_ids = options.return_token_ids();
  request.wants_progress = options.return_progress();
  assign_if(options.has_temperature(), request.temperature, options.temperature());
  assign_if(options.has_top_p(), request.top_p, options.top_p());
  assign_if(options.has_min_p(), request.min_p, options.min_p());
  assign_if(options.has_top_k(), request.top_k, options.top_k());
  assign_if(options.has_presence_penalty(), request.presence_penalty, options.presence_penalty());
  assign_if(options.has_frequency_penalty(), request.frequency_penalty,
            options.frequency_penalty());
  assign_if(options.has_repetition_penalty(), request.repetition_penalty,
            options.repetition_penalty());
  assign_if(options.has_seed(), request.seed, options.seed());
  request.logit_bias.assign(options.logit_bias().begin(), options.logit_bias().end());
  assign_if(options.has_top_logprobs(), request.top_logprobs, options.top_logprobs());
  const v1::Attention& attention = options.attention();
  assign_if(!attention.mode().empty(), request.attention_mode, attention.mode());
  assign_if(attention.has_top_k(), request.attention_top_k, attention.top_k());
  request.priority = options.priority();
  request.cache_salt = options.cache_salt();
  request.prompt_cache_key = options.prompt_cache_key();
}

void write_logprob(const TokenLogprobText& entry, v1::TokenLogprob& proto) {
  proto.set_token_id(entry.token_id);
  proto.set_token(entry.token_bytes);
  proto.set_logprob(entry.logprob);
  for (const TokenLogprobText& top : entry.top) write_logprob(top, *proto.add_top());
}

/// The body of an HTTP request, of members that a proto has as texts or as JSON. What reads it
/// there judges it here.
class JsonBody {
 public:
  void add_text(const char* key, const std::string& text) {
    // Protobuf has checked that it is UTF-8; should it not be, printing must not throw.
    add(key, Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  /// kInvalidArgument unless `json` is one value, so that it cannot add members of its own.
  Status add_json(const char* key, const std::string& json, const std::string& param) {
    if (json.find('\0') != std::string::npos || !Json::accept(json)) {
      return invalid_argument(param + " is not valid JSON", param);
    }
    add(key, json);
    return {};
  }
  bool empty() const { return text_.empty(); }
  std::string text() const { return "{" + text_ + "}"; }

 private:
  void add(const char* key, const std::string& json) {
    text_.append(text_.empty() ? "\"" : ",\"").append(key).append("\":").append(json);
  }
  std::string text_;
};

/// ChatTemplateOptions' tools and names.
Status read_tools_and_names(const v1::ChatRequest& proto, ChatTemplateOptions& options) {
  JsonBody body;
  Status status;
  if (!proto.tools_json().empty()) status = body.add_json("tools", proto.tools_json(), "tools");
  if (status.ok() && !proto.chat_template_kwargs_json().empty()) {
    status = body.add_json("chat_template_kwargs", proto.chat_template_kwargs_json(),
                           "chat_template_kwargs");
  }
  if (!proto.tool_choice().empty()) body.add_text("tool_choice", proto.tool_choice());
  if (!status.ok() || body.empty()) return status;
  const std::string text = body.text();
  Result<Json> object = parse_json_object(text, JsonLimits{});
  if (!object.ok()) return object.status();
  read_template_inputs(RequestFields(object.value(), "", status), text, options, status);
  return status;
}

/// ChatMessage::more_json.
Status read_more(const v1::ChatMessage& proto, const std::string& path, std::string& more_json) {
  JsonBody body;
  if (proto.has_name()) body.add_text("name", proto.name());
  if (proto.has_tool_call_id()) body.add_text("tool_call_id", proto.tool_call_id());
  if (proto.has_reasoning_content()) {
    body.add_text("reasoning_content", proto.reasoning_content());
  }
  Status status;
  if (!proto.tool_calls_json().empty()) {
    status = body.add_json("tool_calls", proto.tool_calls_json(), path + "tool_calls");
  }
  if (!status.ok() || body.empty()) return status;
  const std::string text = body.text();
  Result<Json> object = parse_json_object(text, JsonLimits{});
  if (!object.ok()) return object.status();
  more_json = read_more_members(
      RequestFields(object.value(), path, status), [&] { return std::string_view(text); }, status);
  return status;
}

}  // namespace

Result<GenerateRequest> from_proto(v1::ChatRequest& proto) {
  GenerateRequest request;
  request.is_chat = true;
  request.model = proto.model();
  read_options(proto.options(), request);
  GenerateRequest::ChatInput input;
  Status status = read_tools_and_names(proto, input.options);
  for (v1::ChatMessage& message : *proto.mutable_messages()) {
    const std::string path = "messages[" + std::to_string(input.messages.size()) + "].";
    ChatMessage& read = input.messages.emplace_back(
        ChatMessage{.role = message.role(), .content = std::move(*message.mutable_content())});
    if (status.ok()) status = read_more(message, path, read.more_json);
  }
  if (!status.ok()) return status;
  input.options.continue_final_message = proto.continue_final_message();
  input.options.add_generation_prompt = !proto.continue_final_message();
  assign_if(proto.has_add_generation_prompt(), input.options.add_generation_prompt,
            proto.add_generation_prompt());
  request.input = std::move(input);
  return request;
}

Result<GenerateRequest> from_proto(v1::CompletionRequest& proto) {
  GenerateRequest request;
  request.model = proto.model();
  read_options(proto.options(), request);
  request.echo = proto.echo();
  if (!proto.prompts().empty() && !proto.token_prompts().empty()) {
    return invalid_argument("prompts and token_prompts exclude each other", "prompt");
  }
  if (request.echo && request.top_logprobs) {
    return invalid_argument("echo together with logprobs is not supported", "echo");
  }
  if (!proto.token_prompts().empty()) {
    GenerateRequest::TokenInput input;
    for (const v1::TokenIds& prompt : proto.token_prompts()) {
      input.prompts.emplace_back(prompt.ids().begin(), prompt.ids().end());
    }
    request.input = std::move(input);
    return request;
  }
  GenerateRequest::TextInput input;
  for (std::string& prompt : *proto.mutable_prompts()) input.prompts.push_back(std::move(prompt));
  request.input = std::move(input);
  return request;
}

v1::GenerationEvent to_proto(const PrefillProgressEvent& event) {
  v1::GenerationEvent proto;
  if (event.processed == 0) {  // progress begins with the first chunk
    proto.mutable_queued()->set_choice(event.choice);
    proto.mutable_queued()->set_position(event.queue_position);
    return proto;
  }
  v1::Progress& progress = *proto.mutable_progress();
  progress.set_choice(event.choice);
  progress.set_processed(event.processed);
  progress.set_total(event.total);
  progress.set_cached(event.cached);
  progress.set_eta_ms(event.eta_ms);
  return proto;
}

v1::GenerationEvent to_proto(const DeltaEvent& event) {
  v1::GenerationEvent proto;
  v1::Delta& delta = *proto.mutable_delta();
  delta.set_choice(event.choice);
  delta.set_text(event.text);
  for (const TokenLogprobText& entry : event.logprobs) write_logprob(entry, *delta.add_logprobs());
  delta.mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
  return proto;
}

v1::GenerationEvent to_proto(const ChoiceFinishedEvent& event) {
  v1::GenerationEvent proto;
  proto.mutable_finished()->set_choice(event.choice);
  proto.mutable_finished()->set_reason(event.reason == FinishReason::kLength ? "length" : "stop");
  return proto;
}

v1::GenerationEvent to_proto(const Usage& usage) {
  v1::GenerationEvent proto;
  v1::Usage& out = *proto.mutable_usage();
  out.set_prompt_tokens(usage.prompt_tokens);
  out.set_completion_tokens(usage.completion_tokens);
  out.set_cached_tokens(usage.cached_tokens);
  out.set_blocks_attended(usage.blocks_attended);
  out.set_blocks_available(usage.blocks_available);
  out.set_queue_seconds(usage.queue_seconds);
  out.set_prefill_seconds(usage.prefill_seconds);
  out.set_decode_seconds(usage.decode_seconds);
  return proto;
}

}  // namespace quire
