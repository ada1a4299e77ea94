#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/status.h"
#include "engine/text/tokenizer.h"

namespace quire {

struct ChatMessage {
  std::string role;  // system, developer, user, assistant, tool
  std::string content;
};

/// A prompt as alternating pieces: control tokens by name and text. Text is encoded as text, piece
/// by piece, so that no content can forge a control token.
struct PromptPiece {
  bool is_special = false;
  std::string text;  // the token's name, or text to encode
};

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // leave the last assistant message open
};

/// Turns messages into prompt pieces. Thread-safe.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  /// kInvalidArgument for a role or an order the template does not know.
  virtual Result<std::vector<PromptPiece>> render(const std::vector<ChatMessage>& messages,
                                                  const ChatTemplateOptions& options) const = 0;
};

/// The template that tokenizer_config.json asks for. A small set is known by its text; an unknown
/// one throws LoadError naming what is known.
std::unique_ptr<ChatTemplate> load_chat_template(const std::filesystem::path& model_dir);

/// Encodes pieces in order. kInvalidArgument when a special piece is not in the vocabulary.
Result<std::vector<TokenId>> encode_pieces(const Tokenizer& tokenizer,
                                           const std::vector<PromptPiece>& pieces);

}  // namespace quire
