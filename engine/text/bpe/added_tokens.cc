#include "engine/text/bpe/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "engine/text/bpe/text_normalizer.h"
#include "engine/text/utf8.h"

namespace quire {
namespace {

/// Letters, marks, digits, connectors, joiners: what a word is made of.
bool is_word_character(utf8proc_int32_t c) {
  const bool is_circled_letter = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                                 (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  if (is_circled_letter || c == 0x200C || c == 0x200D) return true;
  const utf8proc_category_t category = utf8proc_category(c);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC;
}

bool starts_with_word(std::string_view text) {
  if (text.empty()) return false;
  utf8proc_int32_t character = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size(), 4)), &character);
  return character >= 0 && is_word_character(character);
}

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  return starts_with_word(text.substr(begin_of_last_character(text)));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder() : nodes_(1) {}

void AddedTokenFinder::add(const AddedToken& token, std::string_view spelling) {
  if (spelling.empty()) return;
  may_start_[static_cast<unsigned char>(spelling[0])] = true;
  size_t node = 0;
  for (const char c : spelling) {
    const auto [place, is_new] = nodes_[node].next.emplace(c, nodes_.size());
    node = place->second;
    if (is_new) nodes_.emplace_back();
  }
  nodes_[node].token = static_cast<int>(tokens_.size());
  tokens_.push_back(token);
}

AddedTokenFinder::Found AddedTokenFinder::find_at(std::string_view text, size_t pos) const {
  Found found{-1, pos};
  size_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    const auto next = nodes_[node].next.find(text[i]);
    if (next == nodes_[node].next.end()) break;
    node = next->second;
    if (nodes_[node].token >= 0) found = {nodes_[node].token, i + 1};
  }
  return found;
}

void AddedTokenFinder::split(std::string_view text,
                             const std::function<void(std::string_view, size_t)>& on_text,
                             const std::function<void(TokenId)>& on_token) const {
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    const Found found =
        may_start_[static_cast<unsigned char>(text[pos])] ? find_at(text, pos) : Found{-1, pos};
    if (found.token < 0) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found.token)];
    size_t begin = pos;
    size_t end = found.end;
    pos = found.end;
    const bool is_inside_word =
        ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end));
    if (token.is_control() || begin < done || (token.is_single_word && is_inside_word)) continue;
    if (token.takes_space_left) begin = std::max(done, strip_right(text.substr(0, begin)).size());
    if (token.takes_space_right) end = text.size() - strip_left(text.substr(end)).size();
    if (done < begin) on_text(text.substr(done, begin - done), done);
    on_token(token.id);
    done = end;
  }
  if (done < text.size()) on_text(text.substr(done), done);
}

}  // namespace quire
