#include "engine/text/reserved_tokens.h"

#include <algorithm>
#include <string_view>

namespace quire {
namespace {

bool is_in_brackets(std::string_view name) {
  return name.size() > 2 && ((name.front() == '<' && name.back() == '>') ||
                             (name.front() == '[' && name.back() == ']'));
}

}  // namespace

void reserve_tokens(const ChatTemplateSources& sources, std::vector<AddedToken>& tokens) {
  for (AddedToken& token : tokens) {
    if (token.is_special || !is_in_brackets(token.content)) continue;
    token.is_reserved =
        std::any_of(sources.templates.begin(), sources.templates.end(), [&](const auto& entry) {
          return entry.second.text.find(token.content) != std::string::npos;
        });
  }
}

}  // namespace quire
