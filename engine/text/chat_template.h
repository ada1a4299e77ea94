#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/status.h"
#include "engine/text/jinja/marked_text.h"

namespace quire {

/// Whether a message may have this role: system, developer, user, assistant, tool. They are the
/// same in every model, and templates write them into control tokens.
bool is_chat_role(std::string_view role);

struct ChatMessage {
  std::string role;  // is_chat_role, or text that becomes no control token
  std::string content;
  /// What else the message has, as the JSON text of an object: tool_calls, tool_call_id, name, ….
  /// Empty = nothing.
  std::string more_json = {};
};

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // leave the last assistant message open
  std::string tools_json = {};          // JSON text of a list; empty = none
  std::string kwargs_json = {};         // JSON text of an object: more names; empty = none
};

/// The chat templates of a model and the names that they may print.
struct ChatTemplateSources {
  struct Source {
    std::string text;
    std::string where;  // for messages: "DIR/tokenizer_config.json: chat_template"
  };
  std::map<std::string, Source> templates;                          // by name; may be empty
  std::vector<std::pair<std::string, std::string>> special_tokens;  // "bos_token", "<s>"
};

/// Turns conversations into prompts with the model's own template. Thread-safe.
///
/// A template sees what Hugging Face transformers shows it: messages, tools, documents,
/// add_generation_prompt, the names of the special tokens, and what the request adds. Differences
/// that OpenAI's API asks for: a developer speaks as system where the template knows no developer,
/// and the arguments of a tool call, a string in the API, are the object that the string spells.
/// A message with tool calls and no text has none as its content.
class ChatTemplate {
 public:
  /// Throws LoadError "<where>: line 3, column 7: …" for a template that cannot be read.
  explicit ChatTemplate(ChatTemplateSources sources);
  ~ChatTemplate();

  /// The prompt; what the request wrote into it is marked. kInvalidArgument, with the template's
  /// words where it refuses, for a conversation that it cannot render, or without a template;
  /// kInternal for a fault that is not the template's.
  Result<jinja::MarkedText> render(const std::vector<ChatMessage>& messages,
                                   const ChatTemplateOptions& options) const;

 private:
  struct Entry;
  const Entry* choose(bool has_tools) const;

  std::map<std::string, std::unique_ptr<const Entry>> templates_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
};

/// Reads what transformers takes: chat_template.jinja and additional_chat_templates/NAME.jinja, or
/// without any of them the chat_template of tokenizer_config.json, a text or a list of named ones;
/// special tokens from tokenizer_config.json and special_tokens_map.json. Or what a GGUF
/// file has of that (find_gguf). A folder without a
/// template is no error. Throws LoadError.
ChatTemplateSources read_chat_templates(const std::filesystem::path& model_dir);

std::unique_ptr<ChatTemplate> load_chat_template(const std::filesystem::path& model_dir);

}  // namespace quire
