#include "server/http/openai_messages.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "server/http/json_scan.h"

namespace quire {
namespace {

using Json = nlohmann::json;

// Chat-template variables that are fields of their own, or the server's.
constexpr std::array<std::string_view, 9> kReservedTemplateKeys = {
    "messages",  "tools",     "documents", "chat_template",         "add_generation_prompt",
    "bos_token", "eos_token", "tokenize",  "continue_final_message"};

// What a message may have beside role and content, and templates read.
constexpr std::array<const char*, 4> kMoreMembers = {"name", "tool_call_id", "reasoning_content",
                                                     "tool_calls"};

constexpr size_t kMaxQuotedBytes = 64;  // of a client's text in a complaint

bool is_filled(const Json& value) { return !value.empty() && value != Json(false); }

/// A message's content: a string, or parts of type text, joined.
std::string read_content(Json& content, const std::string& path, Status& status) {
  if (content.is_string()) return std::move(content.get_ref<std::string&>());
  if (!content.is_array()) {
    status = invalid_argument(path + " must be a string or a list of parts", path);
    return {};
  }
  std::string joined;
  for (size_t i = 0; i < content.size() && status.ok(); ++i) {
    const std::string part_path = path + "[" + std::to_string(i) + "]";
    const RequestFields part(content[i], part_path + ".", status);
    const std::string type = part.text("type").value_or("");
    if (type != "text") {
      if (status.ok()) {
        status = invalid_argument("a content part of type '" + type.substr(0, kMaxQuotedBytes) +
                                      "' is not supported; only text is",
                                  part_path + ".type");
      }
      return {};
    }
    std::optional<std::string> text = part.text("text");
    if (!text) part.fail("text", "is required");
    joined += text.value_or("");
  }
  return joined;
}

class MessagesReader {
 public:
  MessagesReader(std::string_view body, Status& status) : body_(body), status_(status) {}

  std::vector<ChatMessage> read(Json& messages) {
    std::vector<ChatMessage> result;
    for (size_t i = 0; i < messages.size() && status_.ok(); ++i) {
      result.push_back(read_message(messages[i], i));
    }
    return result;
  }

 private:
  ChatMessage read_message(Json& message, size_t message_idx) {
    ChatMessage result;
    const RequestFields fields(message, "messages[" + std::to_string(message_idx) + "].", status_);
    if (!status_.ok()) return result;
    result.role = fields.text("role").value_or("");
    for (const char* key : {"function_call", "audio"}) {
      const Json* value = fields.find(key);
      if (value != nullptr && is_filled(*value)) fields.fail(key, "is not supported");
    }
    result.more_json = read_more_members(
        fields, [&] { return message_text(message_idx); }, status_);
    const Json* calls = fields.find("tool_calls");
    const bool has_calls = calls != nullptr && is_filled(*calls);
    Json* content = fields.find("content");
    if (content == nullptr && !has_calls) fields.fail("content", "is required");
    if (content != nullptr && status_.ok()) {
      result.content = read_content(*content, fields.path_of("content"), status_);
    }
    return result;
  }

  std::string_view message_text(size_t message_idx) {
    if (texts_.empty()) texts_ = element_texts(member_text(body_, "messages"));
    return texts_.at(message_idx);
  }

  std::string_view body_;
  Status& status_;
  std::vector<std::string_view> texts_;  // of the messages; empty until one is needed
};

/// Whether the model may be shown tools. What forces a call needs calls to be read from the answer.
bool may_use_tools(const RequestFields& fields) {
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr || *choice == "auto") return true;
  if (*choice != "none") fields.fail("tool_choice", "other than auto or none is not supported");
  return false;
}

void check_tool(Json& tool, const std::string& path, Status& status) {
  const RequestFields fields(tool, path, status);
  const std::string type = fields.text("type").value_or("");
  if (status.ok() && type != "function") {
    fields.fail("type", "must be function; other tools are not supported");
  }
  Json* function = fields.find("function");
  if (function == nullptr) return fields.fail("function", "is required");
  const RequestFields definition(*function, path + "function.", status);
  const Json* name = definition.find("name");
  if (name == nullptr || !name->is_string() || name->get_ref<const std::string&>().empty()) {
    definition.fail("name", "is required and must be a string");
  }
}

/// ChatTemplateOptions::tools_json.
std::string read_tools(const RequestFields& fields, std::string_view body, Status& status) {
  const bool may_use = may_use_tools(fields);
  Json* tools = fields.find("tools");
  if (tools == nullptr || tools->empty()) return {};
  if (!tools->is_array()) {
    fields.fail("tools", "must be a list");
    return {};
  }
  for (size_t i = 0; i < tools->size() && status.ok(); ++i) {
    check_tool((*tools)[i], "tools[" + std::to_string(i) + "].", status);
  }
  return may_use ? std::string(member_text(body, "tools")) : std::string();
}

/// ChatTemplateOptions::kwargs_json.
std::string read_kwargs(const RequestFields& fields, std::string_view body) {
  const char* const kKey = "chat_template_kwargs";
  const Json* kwargs = fields.find(kKey);
  if (kwargs == nullptr) return {};
  if (!kwargs->is_object()) {
    fields.fail(kKey, "must be an object");
    return {};
  }
  for (const auto& [key, value] : kwargs->items()) {
    if (std::ranges::find(kReservedTemplateKeys, key) != kReservedTemplateKeys.end()) {
      fields.fail(kKey, "must not set '" + key + "'");
    }
  }
  return kwargs->empty() ? std::string() : std::string(member_text(body, kKey));
}

}  // namespace

std::string read_more_members(const RequestFields& fields,
                              const std::function<std::string_view()>& message_text,
                              const Status& status) {
  std::string members;
  for (const char* const key : kMoreMembers) {
    const Json* value = fields.find(key);
    if (value == nullptr) continue;
    const bool is_calls = key == std::string_view("tool_calls");
    if (is_calls ? !value->is_array() : !value->is_string()) {
      fields.fail(key, is_calls ? "must be a list" : "must be a string");
    }
    if (!status.ok()) return {};
    if (value->empty()) continue;  // a list without calls
    members += members.empty() ? "{\"" : ",\"";
    members += std::string(key) + "\":";
    members += member_text(message_text(), key);
  }
  return members.empty() ? members : members + "}";
}

void read_template_inputs(const RequestFields& fields, std::string_view body,
                          ChatTemplateOptions& options, Status& status) {
  options.kwargs_json = read_kwargs(fields, body);
  options.tools_json = read_tools(fields, body, status);
}

GenerateRequest::ChatInput read_chat_input(const RequestFields& fields, std::string_view body,
                                           Status& status) {
  GenerateRequest::ChatInput input;
  read_template_inputs(fields, body, input.options, status);
  Json* messages = fields.find("messages");
  if (messages == nullptr) {
    fields.fail("messages", "is required");
    return input;
  }
  if (!messages->is_array()) {
    fields.fail("messages", "must be a list of messages");
    return input;
  }
  input.messages = MessagesReader(body, status).read(*messages);
  input.options.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  input.options.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  if (input.options.continue_final_message && fields.find("add_generation_prompt") == nullptr) {
    input.options.add_generation_prompt = false;
  }
  return input;
}

}  // namespace quire
