#pragma once

#include <string>
#include <string_view>

namespace quire {

/// Text as a pattern should see it that asks for letters, digits and punctuation: PCRE2 10.42 knows
/// the characters of Unicode 14, Hugging Face's library those of Unicode 16. Each that is newer is
/// replaced by an older one of the same general category (and of Han where it is Han) and of as
/// many bytes, so that a match has the same place in both.
///
/// Returns `text` where nothing is newer, else `changed`, which is written then. REQUIRES: valid
/// UTF-8. Linear; text without characters of three and more bytes costs next to nothing.
std::string_view with_older_characters(std::string_view text, std::string& changed);

}  // namespace quire
