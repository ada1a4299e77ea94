#include "server/http/openai_format.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/text/utf8.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char* reason_text(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

Json head(const AnswerIdentity& identity, const char* object) {
  Json json;
  json["id"] = identity.id;
  json["object"] = object;
  json["created"] = identity.created;
  json["model"] = identity.model;
  return json;
}

const char* chunk_object(const AnswerIdentity& identity) {
  return identity.route == OpenAiRoute::kChat ? "chat.completion.chunk" : "text_completion";
}

Json usage_json(const Usage& usage) {
  return {
      {"prompt_tokens", usage.prompt_tokens},
      {"completion_tokens", usage.completion_tokens},
      {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
      {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
      {"completion_tokens_details", {{"reasoning_tokens", 0}}},
      {"attention",
       {{"blocks_attended", usage.blocks_attended}, {"blocks_available", usage.blocks_available}}}};
}

Json byte_list(const std::string& bytes) {
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

Json chat_logprob(const TokenLogprobText& entry) {
  return {{"token", replace_invalid_utf8(entry.token_bytes)},
          {"logprob", entry.logprob},
          {"bytes", byte_list(entry.token_bytes)}};
}

Json chat_logprobs(const std::vector<TokenLogprobText>& entries) {
  Json content = Json::array();
  for (const TokenLogprobText& entry : entries) {
    Json position = chat_logprob(entry);
    position["top_logprobs"] = Json::array();
    for (const TokenLogprobText& top : entry.top) {
      position["top_logprobs"].push_back(chat_logprob(top));
    }
    content.push_back(std::move(position));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

/// The older shape: parallel lists, offsets in bytes of the choice's text.
Json completion_logprobs(const std::vector<TokenLogprobText>& entries, size_t text_offset) {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array();
  Json offsets = Json::array();
  for (const TokenLogprobText& entry : entries) {
    tokens.push_back(replace_invalid_utf8(entry.token_bytes));
    logprobs.push_back(entry.logprob);
    offsets.push_back(text_offset);
    text_offset += entry.token_bytes.size();
    Json top = Json::object();
    top[replace_invalid_utf8(entry.token_bytes)] = entry.logprob;
    for (const TokenLogprobText& other : entry.top) {
      top[replace_invalid_utf8(other.token_bytes)] = other.logprob;
    }
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json logprobs_json(const AnswerIdentity& identity, const std::vector<TokenLogprobText>& entries,
                   size_t text_offset) {
  if (!identity.has_logprobs) return nullptr;
  return identity.route == OpenAiRoute::kChat ? chat_logprobs(entries)
                                              : completion_logprobs(entries, text_offset);
}

/// A chunk with one choice, its part filled by the caller.
Json chunk(const AnswerIdentity& identity, int32_t choice_idx, Json part, Json logprobs,
           Json finish_reason) {
  Json json = head(identity, chunk_object(identity));
  json["system_fingerprint"] = identity.system_fingerprint;
  Json choice;
  choice["index"] = choice_idx;
  choice[identity.route == OpenAiRoute::kChat ? "delta" : "text"] = std::move(part);
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = std::move(finish_reason);
  json["choices"] = Json::array({std::move(choice)});
  if (identity.has_usage_field) json["usage"] = nullptr;
  return json;
}

Json model_json(const ServiceConfig& config, const std::string& id) {
  return {{"id", id},
          {"object", "model"},
          {"created", config.created},
          {"owned_by", "quire"},
          {"max_model_len", config.max_model_len}};
}

}  // namespace

std::string format_answer(const AnswerIdentity& identity,
                          const std::vector<CollectedChoice>& choices, const Usage& usage) {
  const bool is_chat = identity.route == OpenAiRoute::kChat;
  Json json = head(identity, is_chat ? "chat.completion" : "text_completion");
  json["choices"] = Json::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    const CollectedChoice& collected = choices[i];
    Json choice;
    choice["index"] = i;
    if (is_chat) {
      choice["message"] = {{"role", "assistant"},
                           {"content", collected.text},
                           {"refusal", nullptr},
                           {"annotations", Json::array()}};
    } else {
      choice["text"] = collected.text;
    }
    choice["logprobs"] = logprobs_json(identity, collected.logprobs, 0);
    choice["finish_reason"] = reason_text(collected.reason);
    if (identity.has_token_ids) choice["token_ids"] = collected.token_ids;
    json["choices"].push_back(std::move(choice));
  }
  json["usage"] = usage_json(usage);
  json["system_fingerprint"] = identity.system_fingerprint;
  return dump(json);
}

std::string format_role_chunk(const AnswerIdentity& identity, int32_t choice) {
  return dump(chunk(identity, choice, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
}

std::string format_delta_chunk(const AnswerIdentity& identity, const DeltaEvent& delta,
                               size_t text_offset) {
  Json part =
      identity.route == OpenAiRoute::kChat ? Json{{"content", delta.text}} : Json(delta.text);
  Json json = chunk(identity, delta.choice, std::move(part),
                    logprobs_json(identity, delta.logprobs, text_offset), nullptr);
  if (identity.has_token_ids) json["choices"][0]["token_ids"] = delta.token_ids;
  return dump(json);
}

std::string format_finish_chunk(const AnswerIdentity& identity, int32_t choice,
                                FinishReason reason) {
  Json part = identity.route == OpenAiRoute::kChat ? Json::object() : Json("");
  return dump(chunk(identity, choice, std::move(part), nullptr, reason_text(reason)));
}

std::string format_progress_chunk(const AnswerIdentity& identity,
                                  const PrefillProgressEvent& progress, int64_t elapsed_ms) {
  Json json = head(identity, chunk_object(identity));
  json["system_fingerprint"] = identity.system_fingerprint;
  json["choices"] = Json::array();
  if (identity.has_usage_field) json["usage"] = nullptr;
  json["prompt_progress"] = {
      {"choice", progress.choice},       {"total", progress.total},
      {"cache", progress.cached},        {"cached", progress.cached},
      {"processed", progress.processed}, {"time_ms", elapsed_ms},
      {"eta_ms", progress.eta_ms},       {"queue_position", progress.queue_position}};
  return dump(json);
}

std::string format_usage_chunk(const AnswerIdentity& identity, const Usage& usage) {
  Json json = head(identity, chunk_object(identity));
  json["system_fingerprint"] = identity.system_fingerprint;
  json["choices"] = Json::array();
  json["usage"] = usage_json(usage);
  return dump(json);
}

std::string format_models(const ServiceConfig& config) {
  Json data = Json::array({model_json(config, config.model_name)});
  for (const std::string& alias : config.model_aliases) data.push_back(model_json(config, alias));
  return dump({{"object", "list"}, {"data", std::move(data)}});
}

std::string format_model(const ServiceConfig& config, const std::string& id) {
  return dump(model_json(config, id));
}

std::string format_tokens(const std::vector<TokenId>& tokens, int32_t max_model_len) {
  return dump({{"count", tokens.size()}, {"max_model_len", max_model_len}, {"tokens", tokens}});
}

std::string format_text(const std::string& prompt) { return dump({{"prompt", prompt}}); }

}  // namespace quire
