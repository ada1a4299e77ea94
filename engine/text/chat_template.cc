#include "engine/text/chat_template.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "models/model_config.h"
#include "models/weights/find_gguf.h"
#include "models/weights/gguf.h"

namespace quire {
namespace {

/// A template that is a table: each role opens a part with control tokens and text, and closes it.
/// `{special}` names a control token, everything else is text.
struct Layout {
  struct Part {
    std::vector<PromptPiece> open;
    std::vector<PromptPiece> close;
  };
  std::string_view name;
  std::string_view marker;  // a text that only this family's Jinja template holds
  std::vector<PromptPiece> start;
  std::optional<Part> system, user, assistant, tool;
};

PromptPiece special(std::string name) { return {true, std::move(name)}; }
PromptPiece text(std::string content) { return {false, std::move(content)}; }

Layout quire_layout() {
  return {.name = "quire",
          .marker = "<|user|>{{ m.content }}",
          .start = {special("<s>")},
          .system = Layout::Part{},
          .user = Layout::Part{{special("<|user|>")}, {}},
          .assistant = Layout::Part{{special("<|assistant|>")}, {special("<|end|>")}},
          .tool = std::nullopt};
}

Layout chatml_layout() {
  const auto part = [](const std::string& role) {
    return Layout::Part{{special("<|im_start|>"), text(role + "\n")},
                        {special("<|im_end|>"), text("\n")}};
  };
  return {.name = "chatml",
          .marker = "<|im_start|>",
          .start = {},
          .system = part("system"),
          .user = part("user"),
          .assistant = part("assistant"),
          .tool = std::nullopt};
}

Layout llama3_layout() {
  const auto part = [](const std::string& role) {
    return Layout::Part{
        {special("<|start_header_id|>"), text(role), special("<|end_header_id|>"), text("\n\n")},
        {special("<|eot_id|>")}};
  };
  return {.name = "llama-3",
          .marker = "<|start_header_id|>",
          .start = {special("<|begin_of_text|>")},
          .system = part("system"),
          .user = part("user"),
          .assistant = part("assistant"),
          .tool = std::nullopt};
}

class CodedChatTemplate final : public ChatTemplate {
 public:
  explicit CodedChatTemplate(Layout layout) : layout_(std::move(layout)) {}

  Result<std::vector<PromptPiece>> render(const std::vector<ChatMessage>& messages,
                                          const ChatTemplateOptions& options) const override {
    if (messages.empty()) return invalid_argument("messages is empty", "messages");
    if (options.continue_final_message &&
        (options.add_generation_prompt || messages.back().role != "assistant")) {
      return invalid_argument(
          "continue_final_message needs a last message of the assistant and "
          "add_generation_prompt false",
          "continue_final_message");
    }
    std::vector<PromptPiece> pieces = layout_.start;
    for (size_t i = 0; i < messages.size(); ++i) {
      const Layout::Part* part = part_of(messages[i].role);
      if (part == nullptr) {
        return invalid_argument("messages[" + std::to_string(i) + "].role '" + messages[i].role +
                                    "' is unknown to this model's chat template",
                                "messages[" + std::to_string(i) + "].role");
      }
      append(part->open, pieces);
      pieces.push_back(text(messages[i].content));
      const bool stays_open = options.continue_final_message && i + 1 == messages.size();
      if (!stays_open) append(part->close, pieces);
    }
    if (options.add_generation_prompt) append(layout_.assistant->open, pieces);
    return pieces;
  }

 private:
  static void append(const std::vector<PromptPiece>& from, std::vector<PromptPiece>& to) {
    to.insert(to.end(), from.begin(), from.end());
  }

  const Layout::Part* part_of(std::string_view role) const {
    const std::optional<Layout::Part>* part = nullptr;
    if (role == "system" || role == "developer") part = &layout_.system;
    if (role == "user") part = &layout_.user;
    if (role == "assistant") part = &layout_.assistant;
    if (role == "tool") part = &layout_.tool;
    return part != nullptr && part->has_value() ? &**part : nullptr;
  }

  Layout layout_;
};

/// The Jinja text that a folder's tokenizer_config.json, or a GGUF, brings.
std::string read_chat_template(const std::filesystem::path& model) {
  if (const auto gguf = find_gguf(model)) {
    return std::string(GgufFile(*gguf).metadata().text("tokenizer.chat_template"));
  }
  const std::filesystem::path file = model / "tokenizer_config.json";
  std::ifstream stream(file);
  if (!stream) throw LoadError(file.string() + ": cannot be read");
  const auto config = nlohmann::json::parse(stream, nullptr, false);
  const auto source =
      config.is_object() ? config.find("chat_template") : nlohmann::json::const_iterator();
  if (!config.is_object() || source == config.end() || !source->is_string()) {
    throw LoadError(file.string() + ": chat_template: expected a string");
  }
  return source->get<std::string>();
}

}  // namespace

std::unique_ptr<ChatTemplate> load_chat_template(const std::filesystem::path& model) {
  const std::string jinja = read_chat_template(model);
  std::string known;
  for (Layout (*make)() : {chatml_layout, llama3_layout, quire_layout}) {
    Layout layout = make();
    if (jinja.find(layout.marker) != std::string::npos) {
      return std::make_unique<CodedChatTemplate>(std::move(layout));
    }
    known += (known.empty() ? "" : ", ") + std::string(layout.name);
  }
  throw LoadError(model.string() + ": chat_template: unknown to this version; known: " + known);
}

Result<std::vector<TokenId>> encode_pieces(const Tokenizer& tokenizer,
                                           const std::vector<PromptPiece>& pieces) {
  std::vector<TokenId> ids;
  for (const PromptPiece& piece : pieces) {
    if (piece.is_special) {
      const std::optional<TokenId> id = tokenizer.special_token(piece.text);
      if (!id) {
        return invalid_argument(
            "the tokenizer has no '" + piece.text + "', which the chat template needs", "messages");
      }
      ids.push_back(*id);
    } else {
      const std::vector<TokenId> part =
          ids.empty() ? tokenizer.encode(piece.text) : tokenizer.encode_behind_token(piece.text);
      if (ids.empty()) {
        ids = part;
      } else {
        ids.insert(ids.end(), part.begin(), part.end());
      }
    }
  }
  return ids;
}

}  // namespace quire
