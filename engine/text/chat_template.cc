#include "engine/text/chat_template.h"

#include <algorithm>
#include <array>
#include <ctime>

#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/json_value.h"
#include "engine/text/jinja/template.h"
#include "engine/text/utf8.h"
#include "models/model_config.h"

namespace quire {
namespace {

using jinja::Dict;
using jinja::DictPtr;
using jinja::MarkedText;
using jinja::Origin;
using jinja::Value;

constexpr size_t kMaxKwargs = 64;
constexpr size_t kMaxComplaintBytes = 1024;  // a template may raise with a whole document
// A prompt is about as long as its messages; a template may copy them some times on the way.
constexpr size_t kOutputPerByte = 4;
constexpr size_t kBuiltPerByte = 64;

/// Marks where the last message ends, as transformers does it: templates trim and cut messages, so
/// the end cannot be computed. The space tells whether the template has trimmed.
constexpr std::string_view kFinalTag = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Names that are not the request's to set by chat_template_kwargs.
constexpr std::array<std::string_view, 4> kOwnNames = {"messages", "tools", "documents",
                                                       "add_generation_prompt"};

/// A field of the request that is not what it must be.
struct BadField {
  Status status;
};

[[noreturn]] void refuse(const std::string& param, const std::string& what) {
  throw BadField{invalid_argument(param + " " + what, param)};
}

Value read_json(const std::string& text, const std::string& param) {
  try {
    return value_of_json(text, Origin::kRequest);
  } catch (const jinja::Error& error) {
    refuse(param, shortened(std::string("cannot be read: ") + error.what(), kMaxComplaintBytes));
  }
}

DictPtr with(const Dict& dict, std::string_view key, Value value) {
  auto changed = std::make_shared<Dict>(dict);
  changed->set(Value::of_text(key), std::move(value));
  return changed;
}

/// Tool calls as templates expect them: arguments are an object.
Value with_read_arguments(const Value& calls, const std::string& param) {
  if (!calls.is_list()) refuse(param, "must be a list");
  std::vector<Value> items;
  for (const Value& call : calls.items()) {
    const Value* function = call.is_dict() ? call.as_dict().find("function") : nullptr;
    const bool has_function = function != nullptr && function->is_dict();
    const Value* arguments = has_function ? function->as_dict().find("arguments") : nullptr;
    if (arguments == nullptr || !arguments->is_text()) {
      items.push_back(call);
      continue;
    }
    const std::string path = param + "[" + std::to_string(items.size()) + "].function.arguments";
    const std::string& text = arguments->bytes();
    Value read = read_json(text.empty() ? "{}" : text, path);
    items.push_back(
        with(call.as_dict(), "function", with(function->as_dict(), "arguments", std::move(read))));
  }
  return Value::of_list(std::move(items));
}

/// What a template's source speaks of. What it does not, it would pass over in silence.
struct Vocabulary {
  explicit Vocabulary(std::string_view source)
      : has_developer(source.find("developer") != source.npos),
        has_tools(source.find("tools") != source.npos),
        has_tool_calls(source.find("tool_calls") != source.npos) {}
  bool has_developer;
  bool has_tools;
  bool has_tool_calls;
};

Value message_value(const ChatMessage& message, const std::string& param, const Vocabulary& known,
                    std::string_view tail) {
  const bool is_system = message.role == "developer" && !known.has_developer;
  const std::string role = is_system ? "system" : message.role;
  Dict dict;
  dict.set(Value::of_text("role"),
           is_chat_role(role) ? Value::of_text(role) : Value(MarkedText::of_user(role)));
  dict.set(Value::of_text("content"), MarkedText::of_user(message.content + std::string(tail)));
  if (message.more_json.empty()) return std::make_shared<const Dict>(std::move(dict));
  const Value more = read_json(message.more_json, param);
  if (!more.is_dict()) refuse(param, "must be an object");
  for (const auto& [key, value] : more.as_dict().entries()) {
    if (key.bytes() == "role" || key.bytes() == "content") continue;
    const bool is_calls = key.bytes() == "tool_calls";
    dict.set(key, is_calls ? with_read_arguments(value, param + ".tool_calls") : value);
  }
  if (dict.find("tool_calls") == nullptr) return std::make_shared<const Dict>(std::move(dict));
  if (!known.has_tool_calls) {
    refuse(param + ".tool_calls", "has no place in the model's chat template");
  }
  if (message.content.empty() && tail.empty()) {
    dict.set(Value::of_text("content"), jinja::None());
  }
  return std::make_shared<const Dict>(std::move(dict));
}

/// What the request shows the template.
void add_request(const std::vector<ChatMessage>& messages, const ChatTemplateOptions& options,
                 const Vocabulary& known, jinja::Input& input) {
  if (!options.kwargs_json.empty()) {
    const std::string param = "chat_template_kwargs";
    const Value kwargs = read_json(options.kwargs_json, param);
    if (!kwargs.is_dict()) refuse(param, "must be an object");
    if (kwargs.as_dict().entries().size() > kMaxKwargs) {
      refuse(param, "may set at most " + std::to_string(kMaxKwargs) + " names");
    }
    for (const auto& [key, value] : kwargs.as_dict().entries()) {
      if (std::ranges::find(kOwnNames, key.bytes()) != kOwnNames.end()) {
        refuse(param, "must not set '" + key.bytes() + "'");
      }
      input.variables.push_back({key.bytes(), value});
    }
  }
  std::vector<Value> items;
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool is_open = options.continue_final_message && i + 1 == messages.size();
    items.push_back(message_value(messages[i], "messages[" + std::to_string(i) + "]", known,
                                  is_open ? kFinalTag : std::string_view()));
  }
  Value tools = jinja::None();
  if (!options.tools_json.empty()) {
    tools = read_json(options.tools_json, "tools");
    if (!tools.is_list()) refuse("tools", "must be a list");
    if (!known.has_tools) refuse("tools", "have no place in the model's chat template");
  }
  input.variables.push_back({"messages", Value::of_list(std::move(items))});
  input.variables.push_back({"tools", std::move(tools)});
  input.variables.push_back({"documents", jinja::None()});
  input.variables.push_back(
      {"add_generation_prompt", Value::of_bool(options.add_generation_prompt)});
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return local;
}

jinja::Limits limits_for(const std::vector<ChatMessage>& messages,
                         const ChatTemplateOptions& options) {
  size_t num_bytes = options.tools_json.size() + options.kwargs_json.size();
  for (const ChatMessage& message : messages) {
    num_bytes += message.content.size() + message.more_json.size();
  }
  jinja::Limits limits;
  limits.max_output_bytes += kOutputPerByte * num_bytes;
  limits.max_built_bytes += kBuiltPerByte * num_bytes;
  return limits;
}

/// The prompt up to the end of its last message.
MarkedText cut_at_tag(const MarkedText& prompt) {
  const std::string_view bytes = prompt.bytes();
  const std::string_view trimmed_tag = kFinalTag.substr(0, kFinalTag.size() - 1);
  size_t end = bytes.rfind(trimmed_tag);
  if (end == std::string_view::npos) {
    refuse("continue_final_message",
           "cannot be done: the chat template does not print the message");
  }
  if (bytes.substr(end, kFinalTag.size()) != kFinalTag) {
    end = jinja::end_of_stripped(bytes.substr(0, end), 0);
  }
  return prompt.slice(0, end);
}

}  // namespace

bool is_chat_role(std::string_view role) {
  constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                      "tool"};
  return std::ranges::find(kRoles, role) != kRoles.end();
}

struct ChatTemplate::Entry {
  jinja::Template parsed;
  Vocabulary known;
};

ChatTemplate::ChatTemplate(ChatTemplateSources sources)
    : special_tokens_(std::move(sources.special_tokens)) {
  for (const auto& [name, source] : sources.templates) {
    try {
      templates_.emplace(name, std::make_unique<const Entry>(
                                   Entry{jinja::Template(source.text), Vocabulary(source.text)}));
    } catch (const jinja::Error& error) {
      throw LoadError(source.where + ": " + error.what());
    }
  }
}

ChatTemplate::~ChatTemplate() = default;

const ChatTemplate::Entry* ChatTemplate::choose(bool has_tools) const {
  auto found = has_tools ? templates_.find("tool_use") : templates_.end();
  if (found == templates_.end()) found = templates_.find("default");
  return found == templates_.end() ? nullptr : found->second.get();
}

Result<MarkedText> ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                        const ChatTemplateOptions& options) const {
  if (messages.empty()) return invalid_argument("messages is empty", "messages");
  const bool continues = options.continue_final_message;
  if (continues && (options.add_generation_prompt || messages.back().role != "assistant")) {
    return invalid_argument(
        "continue_final_message needs a last message of the assistant and "
        "add_generation_prompt false",
        "continue_final_message");
  }
  const Entry* entry = choose(!options.tools_json.empty());
  if (entry == nullptr) {
    return invalid_argument("the model has no chat template; /v1/completions takes plain prompts",
                            "messages");
  }
  try {
    jinja::Input input = {.now = local_time(), .limits = limits_for(messages, options)};
    add_request(messages, options, entry->known, input);
    // Behind the request's, so that none of them takes the place of a special token.
    for (const auto& [name, token] : special_tokens_) {
      input.variables.push_back({name, Value::of_text(token)});
    }
    MarkedText prompt = entry->parsed.render(input);
    if (continues) return cut_at_tag(prompt);
    return prompt;
  } catch (const BadField& field) {
    return field.status;
  } catch (const jinja::Error& error) {
    return invalid_argument(
        shortened(std::string("the model's chat template cannot render this conversation: ") +
                      error.what(),
                  kMaxComplaintBytes),
        "messages");
  } catch (const std::exception& error) {
    return Status(StatusCode::kInternal,
                  std::string("the chat template could not be run: ") + error.what());
  }
}

}  // namespace quire
