#pragma once

#include <vector>

#include "engine/text/bpe/added_tokens.h"
#include "engine/text/chat_template.h"

namespace quire {

/// Some models declare tokens that tell their roles apart ("<|User|>", "<think>") as ordinary added
/// ones, which text becomes wherever it spells them. Those that a chat template itself writes are
/// reserved for it here: a message that spells one is text. Only names in brackets, <...> or [...],
/// count: templates also write spaces and words that are tokens.
void reserve_tokens(const ChatTemplateSources& sources, std::vector<AddedToken>& tokens);

}  // namespace quire
