#include "engine/text/jinja/letter_case.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "engine/text/jinja/characters.h"

namespace quire::jinja {
namespace {

/// Characters that are several in upper case, or at the beginning of a word (Unicode's
/// SpecialCasing.txt).
struct Expansion {
  char32_t code;
  std::string_view upper, title;
};
constexpr Expansion kExpansions[] = {{0xDF, "SS", "Ss"},
                                     {0x149, "\u02BCN", "\u02BCN"},
                                     {0x1F0, "J\u030C", "J\u030C"},
                                     {0x390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
                                     {0x3B0, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
                                     {0x587, "\u0535\u0552", "\u0535\u0582"},
                                     {0x1E96, "H\u0331", "H\u0331"},
                                     {0x1E97, "T\u0308", "T\u0308"},
                                     {0x1E98, "W\u030A", "W\u030A"},
                                     {0x1E99, "Y\u030A", "Y\u030A"},
                                     {0x1E9A, "A\u02BE", "A\u02BE"},
                                     {0x1F50, "\u03A5\u0313", "\u03A5\u0313"},
                                     {0x1F52, "\u03A5\u0313\u0300", "\u03A5\u0313\u0300"},
                                     {0x1F54, "\u03A5\u0313\u0301", "\u03A5\u0313\u0301"},
                                     {0x1F56, "\u03A5\u0313\u0342", "\u03A5\u0313\u0342"},
                                     {0x1FB2, "\u1FBA\u0399", "\u1FBA\u0345"},
                                     {0x1FB3, "\u0391\u0399", "\u1FBC"},
                                     {0x1FB4, "\u0386\u0399", "\u0386\u0345"},
                                     {0x1FB6, "\u0391\u0342", "\u0391\u0342"},
                                     {0x1FB7, "\u0391\u0342\u0399", "\u0391\u0342\u0345"},
                                     {0x1FBC, "\u0391\u0399", "\u1FBC"},
                                     {0x1FC2, "\u1FCA\u0399", "\u1FCA\u0345"},
                                     {0x1FC3, "\u0397\u0399", "\u1FCC"},
                                     {0x1FC4, "\u0389\u0399", "\u0389\u0345"},
                                     {0x1FC6, "\u0397\u0342", "\u0397\u0342"},
                                     {0x1FC7, "\u0397\u0342\u0399", "\u0397\u0342\u0345"},
                                     {0x1FCC, "\u0397\u0399", "\u1FCC"},
                                     {0x1FD2, "\u0399\u0308\u0300", "\u0399\u0308\u0300"},
                                     {0x1FD3, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
                                     {0x1FD6, "\u0399\u0342", "\u0399\u0342"},
                                     {0x1FD7, "\u0399\u0308\u0342", "\u0399\u0308\u0342"},
                                     {0x1FE2, "\u03A5\u0308\u0300", "\u03A5\u0308\u0300"},
                                     {0x1FE3, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
                                     {0x1FE4, "\u03A1\u0313", "\u03A1\u0313"},
                                     {0x1FE6, "\u03A5\u0342", "\u03A5\u0342"},
                                     {0x1FE7, "\u03A5\u0308\u0342", "\u03A5\u0308\u0342"},
                                     {0x1FF2, "\u1FFA\u0399", "\u1FFA\u0345"},
                                     {0x1FF3, "\u03A9\u0399", "\u1FFC"},
                                     {0x1FF4, "\u038F\u0399", "\u038F\u0345"},
                                     {0x1FF6, "\u03A9\u0342", "\u03A9\u0342"},
                                     {0x1FF7, "\u03A9\u0342\u0399", "\u03A9\u0342\u0345"},
                                     {0x1FFC, "\u03A9\u0399", "\u1FFC"},
                                     {0xFB00, "FF", "Ff"},
                                     {0xFB01, "FI", "Fi"},
                                     {0xFB02, "FL", "Fl"},
                                     {0xFB03, "FFI", "Ffi"},
                                     {0xFB04, "FFL", "Ffl"},
                                     {0xFB05, "ST", "St"},
                                     {0xFB06, "ST", "St"},
                                     {0xFB13, "\u0544\u0546", "\u0544\u0576"},
                                     {0xFB14, "\u0544\u0535", "\u0544\u0565"},
                                     {0xFB15, "\u0544\u053B", "\u0544\u056B"},
                                     {0xFB16, "\u054E\u0546", "\u054E\u0576"},
                                     {0xFB17, "\u0544\u053D", "\u0544\u056D"}};

const Expansion* expansion_of(char32_t code) {
  if (code < 0x80) return nullptr;
  const auto found = std::find_if(std::begin(kExpansions), std::end(kExpansions),
                                  [&](const Expansion& each) { return each.code == code; });
  return found != std::end(kExpansions) ? found : nullptr;
}

/// Greek vowels with a breathing and an iota below: three rows of sixteen, for alpha, eta and
/// omega.
bool is_with_iota(char32_t code) { return code >= 0x1F80 && code <= 0x1FAF; }

char32_t capital_without_iota(char32_t code) {
  constexpr char32_t kCapitals[] = {0x1F08, 0x1F28, 0x1F68};
  return kCapitals[(code - 0x1F80) / 16] + code % 8;
}

char32_t to_title(char32_t code) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code)));
}

}  // namespace

char32_t to_upper(char32_t code) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code)));
}

char32_t to_lower(char32_t code) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

bool is_cased(char32_t code) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT) ||
         to_upper(code) != code || to_lower(code) != code;  // roman numerals, circled letters
}

bool is_case_ignorable(char32_t code) {
  constexpr std::u32string_view kSigns =  // in the middle of a word: Unicode's annex 29
      U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A";
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return kSigns.find(code) != kSigns.npos;
  }
}

void append_upper(char32_t code, std::string& out) {
  if (const Expansion* expansion = expansion_of(code)) {
    out += expansion->upper;
  } else if (is_with_iota(code)) {
    append_utf8(capital_without_iota(code), out);
    append_utf8(0x399, out);
  } else {
    append_utf8(to_upper(code), out);
  }
}

void append_title(char32_t code, std::string& out) {
  if (const Expansion* expansion = expansion_of(code)) {
    out += expansion->title;
  } else {
    append_utf8(to_title(code), out);
  }
}

void append_lower(char32_t code, std::string& out) {
  append_utf8(code == 0x130 ? U'i' : to_lower(code), out);
  if (code == 0x130) append_utf8(0x307, out);  // the dot of a Turkish capital I stays
}

}  // namespace quire::jinja
