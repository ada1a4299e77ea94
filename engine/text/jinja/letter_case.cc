// Tables of Unicode 14, taken from Python's str.lower and str.upper.

#include "engine/text/jinja/letter_case.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "engine/text/jinja/characters.h"

namespace quire::jinja {
namespace {

/// Every `step`-th letter of [first, last] has its counterpart `distance` behind it.
struct Run {
  char32_t first, last;
  int32_t step, distance;
};

/// Upper case letters; their counterparts lead back to them.
constexpr Run kPairs[] = {
    {0x41, 0x5A, 1, 32},         {0xC0, 0xD6, 1, 32},         {0xD8, 0xDE, 1, 32},
    {0x100, 0x12E, 2, 1},        {0x132, 0x136, 2, 1},        {0x139, 0x147, 2, 1},
    {0x14A, 0x176, 2, 1},        {0x178, 0x178, 1, -121},     {0x179, 0x17D, 2, 1},
    {0x181, 0x181, 1, 210},      {0x182, 0x184, 2, 1},        {0x186, 0x186, 1, 206},
    {0x187, 0x187, 1, 1},        {0x189, 0x18A, 1, 205},      {0x18B, 0x18B, 1, 1},
    {0x18E, 0x18E, 1, 79},       {0x18F, 0x18F, 1, 202},      {0x190, 0x190, 1, 203},
    {0x191, 0x191, 1, 1},        {0x193, 0x193, 1, 205},      {0x194, 0x194, 1, 207},
    {0x196, 0x196, 1, 211},      {0x197, 0x197, 1, 209},      {0x198, 0x198, 1, 1},
    {0x19C, 0x19C, 1, 211},      {0x19D, 0x19D, 1, 213},      {0x19F, 0x19F, 1, 214},
    {0x1A0, 0x1A4, 2, 1},        {0x1A6, 0x1A6, 1, 218},      {0x1A7, 0x1A7, 1, 1},
    {0x1A9, 0x1A9, 1, 218},      {0x1AC, 0x1AC, 1, 1},        {0x1AE, 0x1AE, 1, 218},
    {0x1AF, 0x1AF, 1, 1},        {0x1B1, 0x1B2, 1, 217},      {0x1B3, 0x1B5, 2, 1},
    {0x1B7, 0x1B7, 1, 219},      {0x1B8, 0x1B8, 1, 1},        {0x1BC, 0x1BC, 1, 1},
    {0x1C4, 0x1C4, 1, 2},        {0x1C7, 0x1C7, 1, 2},        {0x1CA, 0x1CA, 1, 2},
    {0x1CD, 0x1DB, 2, 1},        {0x1DE, 0x1EE, 2, 1},        {0x1F1, 0x1F1, 1, 2},
    {0x1F4, 0x1F4, 1, 1},        {0x1F6, 0x1F6, 1, -97},      {0x1F7, 0x1F7, 1, -56},
    {0x1F8, 0x21E, 2, 1},        {0x220, 0x220, 1, -130},     {0x222, 0x232, 2, 1},
    {0x23A, 0x23A, 1, 10795},    {0x23B, 0x23B, 1, 1},        {0x23D, 0x23D, 1, -163},
    {0x23E, 0x23E, 1, 10792},    {0x241, 0x241, 1, 1},        {0x243, 0x243, 1, -195},
    {0x244, 0x244, 1, 69},       {0x245, 0x245, 1, 71},       {0x246, 0x24E, 2, 1},
    {0x370, 0x372, 2, 1},        {0x376, 0x376, 1, 1},        {0x37F, 0x37F, 1, 116},
    {0x386, 0x386, 1, 38},       {0x388, 0x38A, 1, 37},       {0x38C, 0x38C, 1, 64},
    {0x38E, 0x38F, 1, 63},       {0x391, 0x3A1, 1, 32},       {0x3A3, 0x3AB, 1, 32},
    {0x3CF, 0x3CF, 1, 8},        {0x3D8, 0x3EE, 2, 1},        {0x3F7, 0x3F7, 1, 1},
    {0x3F9, 0x3F9, 1, -7},       {0x3FA, 0x3FA, 1, 1},        {0x3FD, 0x3FF, 1, -130},
    {0x400, 0x40F, 1, 80},       {0x410, 0x42F, 1, 32},       {0x460, 0x480, 2, 1},
    {0x48A, 0x4BE, 2, 1},        {0x4C0, 0x4C0, 1, 15},       {0x4C1, 0x4CD, 2, 1},
    {0x4D0, 0x52E, 2, 1},        {0x531, 0x556, 1, 48},       {0x10A0, 0x10C5, 1, 7264},
    {0x10C7, 0x10C7, 1, 7264},   {0x10CD, 0x10CD, 1, 7264},   {0x13A0, 0x13EF, 1, 38864},
    {0x13F0, 0x13F5, 1, 8},      {0x1C90, 0x1CBA, 1, -3008},  {0x1CBD, 0x1CBF, 1, -3008},
    {0x1E00, 0x1E94, 2, 1},      {0x1EA0, 0x1EFE, 2, 1},      {0x1F08, 0x1F0F, 1, -8},
    {0x1F18, 0x1F1D, 1, -8},     {0x1F28, 0x1F2F, 1, -8},     {0x1F38, 0x1F3F, 1, -8},
    {0x1F48, 0x1F4D, 1, -8},     {0x1F59, 0x1F5F, 2, -8},     {0x1F68, 0x1F6F, 1, -8},
    {0x1FB8, 0x1FB9, 1, -8},     {0x1FBA, 0x1FBB, 1, -74},    {0x1FC8, 0x1FCB, 1, -86},
    {0x1FD8, 0x1FD9, 1, -8},     {0x1FDA, 0x1FDB, 1, -100},   {0x1FE8, 0x1FE9, 1, -8},
    {0x1FEA, 0x1FEB, 1, -112},   {0x1FEC, 0x1FEC, 1, -7},     {0x1FF8, 0x1FF9, 1, -128},
    {0x1FFA, 0x1FFB, 1, -126},   {0x2132, 0x2132, 1, 28},     {0x2160, 0x216F, 1, 16},
    {0x2183, 0x2183, 1, 1},      {0x2C00, 0x2C2F, 1, 48},     {0x2C60, 0x2C60, 1, 1},
    {0x2C62, 0x2C62, 1, -10743}, {0x2C63, 0x2C63, 1, -3814},  {0x2C64, 0x2C64, 1, -10727},
    {0x2C67, 0x2C6B, 2, 1},      {0x2C6D, 0x2C6D, 1, -10780}, {0x2C6E, 0x2C6E, 1, -10749},
    {0x2C6F, 0x2C6F, 1, -10783}, {0x2C70, 0x2C70, 1, -10782}, {0x2C72, 0x2C72, 1, 1},
    {0x2C75, 0x2C75, 1, 1},      {0x2C7E, 0x2C7F, 1, -10815}, {0x2C80, 0x2CE2, 2, 1},
    {0x2CEB, 0x2CED, 2, 1},      {0x2CF2, 0x2CF2, 1, 1},      {0xA640, 0xA66C, 2, 1},
    {0xA680, 0xA69A, 2, 1},      {0xA722, 0xA72E, 2, 1},      {0xA732, 0xA76E, 2, 1},
    {0xA779, 0xA77B, 2, 1},      {0xA77D, 0xA77D, 1, -35332}, {0xA77E, 0xA786, 2, 1},
    {0xA78B, 0xA78B, 1, 1},      {0xA78D, 0xA78D, 1, -42280}, {0xA790, 0xA792, 2, 1},
    {0xA796, 0xA7A8, 2, 1},      {0xA7AA, 0xA7AA, 1, -42308}, {0xA7AB, 0xA7AB, 1, -42319},
    {0xA7AC, 0xA7AC, 1, -42315}, {0xA7AD, 0xA7AD, 1, -42305}, {0xA7AE, 0xA7AE, 1, -42308},
    {0xA7B0, 0xA7B0, 1, -42258}, {0xA7B1, 0xA7B1, 1, -42282}, {0xA7B2, 0xA7B2, 1, -42261},
    {0xA7B3, 0xA7B3, 1, 928},    {0xA7B4, 0xA7C2, 2, 1},      {0xA7C4, 0xA7C4, 1, -48},
    {0xA7C5, 0xA7C5, 1, -42307}, {0xA7C6, 0xA7C6, 1, -35384}, {0xA7C7, 0xA7C9, 2, 1},
    {0xA7D0, 0xA7D0, 1, 1},      {0xA7D6, 0xA7D8, 2, 1},      {0xA7F5, 0xA7F5, 1, 1},
    {0xFF21, 0xFF3A, 1, 32},     {0x10400, 0x10427, 1, 40},   {0x104B0, 0x104D3, 1, 40},
    {0x10570, 0x1057A, 1, 39},   {0x1057C, 0x1058A, 1, 39},   {0x1058C, 0x10592, 1, 39},
    {0x10594, 0x10595, 1, 39},   {0x10C80, 0x10CB2, 1, 64},   {0x118A0, 0x118BF, 1, 32},
    {0x16E40, 0x16E5F, 1, 32},   {0x1E900, 0x1E921, 1, 34}};
/// Letters whose lower case leads back to others.
constexpr Run kOnlyToLower[] = {
    {0x1C5, 0x1C5, 1, 1},       {0x1C8, 0x1C8, 1, 1},       {0x1CB, 0x1CB, 1, 1},
    {0x1F2, 0x1F2, 1, 1},       {0x3F4, 0x3F4, 1, -60},     {0x1E9E, 0x1E9E, 1, -7615},
    {0x1F88, 0x1F8F, 1, -8},    {0x1F98, 0x1F9F, 1, -8},    {0x1FA8, 0x1FAF, 1, -8},
    {0x1FBC, 0x1FBC, 1, -9},    {0x1FCC, 0x1FCC, 1, -9},    {0x1FFC, 0x1FFC, 1, -9},
    {0x2126, 0x2126, 1, -7517}, {0x212A, 0x212A, 1, -8383}, {0x212B, 0x212B, 1, -8262}};
/// Letters whose upper case leads back to others.
constexpr Run kOnlyToUpper[] = {
    {0xB5, 0xB5, 1, 743},       {0x131, 0x131, 1, -232},    {0x17F, 0x17F, 1, -300},
    {0x1C5, 0x1C5, 1, -1},      {0x1C8, 0x1C8, 1, -1},      {0x1CB, 0x1CB, 1, -1},
    {0x1F2, 0x1F2, 1, -1},      {0x345, 0x345, 1, 84},      {0x3C2, 0x3C2, 1, -31},
    {0x3D0, 0x3D0, 1, -62},     {0x3D1, 0x3D1, 1, -57},     {0x3D5, 0x3D5, 1, -47},
    {0x3D6, 0x3D6, 1, -54},     {0x3F0, 0x3F0, 1, -86},     {0x3F1, 0x3F1, 1, -80},
    {0x3F5, 0x3F5, 1, -96},     {0x1C80, 0x1C80, 1, -6254}, {0x1C81, 0x1C81, 1, -6253},
    {0x1C82, 0x1C82, 1, -6244}, {0x1C83, 0x1C84, 1, -6242}, {0x1C85, 0x1C85, 1, -6243},
    {0x1C86, 0x1C86, 1, -6236}, {0x1C87, 0x1C87, 1, -6181}, {0x1C88, 0x1C88, 1, 35266},
    {0x1E9B, 0x1E9B, 1, -59},   {0x1FBE, 0x1FBE, 1, -7205}};

/// Characters that are several in upper case, and at the beginning of a word.
struct Expansion {
  char32_t code;
  std::string_view upper, title;
};
constexpr Expansion kExpansions[] = {
    {0xDF, "SS", "Ss"},   {0x149, "ʼN", "ʼN"},  {0x1F0, "J̌", "J̌"},      {0x390, "Ϊ́", "Ϊ́"},
    {0x3B0, "Ϋ́", "Ϋ́"},    {0x587, "ԵՒ", "Եւ"},  {0x1E96, "H̱", "H̱"},     {0x1E97, "T̈", "T̈"},
    {0x1E98, "W̊", "W̊"},   {0x1E99, "Y̊", "Y̊"},   {0x1E9A, "Aʾ", "Aʾ"},   {0x1F50, "Υ̓", "Υ̓"},
    {0x1F52, "Υ̓̀", "Υ̓̀"},   {0x1F54, "Υ̓́", "Υ̓́"},   {0x1F56, "Υ̓͂", "Υ̓͂"},     {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"}, {0xFB02, "FL", "Fl"}, {0xFB03, "FFI", "Ffi"}, {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"}, {0xFB06, "ST", "St"}, {0xFB13, "ՄՆ", "Մն"},   {0xFB14, "ՄԵ", "Մե"},
    {0xFB15, "ՄԻ", "Մի"}, {0xFB16, "ՎՆ", "Վն"}, {0xFB17, "ՄԽ", "Մխ"}};

char32_t moved(char32_t code, int32_t distance) {
  return static_cast<char32_t>(static_cast<int32_t>(code) + distance);
}

/// What is mapped by runs that are sorted by their first letter; `code` itself where none has it.
template <class Runs>
char32_t mapped(const Runs& runs, char32_t code) {
  const auto behind =
      std::upper_bound(std::begin(runs), std::end(runs), code,
                       [](char32_t wanted, const Run& run) { return wanted < run.first; });
  if (behind == std::begin(runs)) return code;
  const Run& run = *std::prev(behind);
  const bool is_in = code <= run.last && (code - run.first) % static_cast<char32_t>(run.step) == 0;
  return is_in ? moved(code, run.distance) : code;
}

/// kPairs the other way round.
const std::vector<Run>& to_upper_runs() {
  static const std::vector<Run> kRuns = [] {
    std::vector<Run> runs;
    for (const Run& run : kPairs) {
      runs.push_back(
          {moved(run.first, run.distance), moved(run.last, run.distance), run.step, -run.distance});
    }
    std::sort(runs.begin(), runs.end(),
              [](const Run& left, const Run& right) { return left.first < right.first; });
    return runs;
  }();
  return kRuns;
}

const Expansion* expansion_of(char32_t code) {
  const auto found = std::find_if(std::begin(kExpansions), std::end(kExpansions),
                                  [&](const Expansion& each) { return each.code == code; });
  return found != std::end(kExpansions) ? found : nullptr;
}

/// Croatian and other pairs of letters in one character have a third form.
char32_t to_title(char32_t code) {
  if (code >= 0x1C4 && code <= 0x1CC) return 0x1C5 + (code - 0x1C4) / 3 * 3;
  if (code >= 0x1F1 && code <= 0x1F3) return 0x1F2;
  const bool is_georgian = code >= 0x10D0 && code <= 0x10FF;  // has capitals, but no titles
  return is_georgian ? code : to_upper(code);
}

}  // namespace

char32_t to_upper(char32_t code) {
  if (code < 0x80) return code >= 'a' && code <= 'z' ? code - 32 : code;
  const char32_t upper = mapped(to_upper_runs(), code);
  return upper != code ? upper : mapped(kOnlyToUpper, code);
}

char32_t to_lower(char32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  const char32_t lower = mapped(kPairs, code);
  return lower != code ? lower : mapped(kOnlyToLower, code);
}

bool is_cased(char32_t code) {
  return to_upper(code) != code || to_lower(code) != code || code == 0x130 ||
         expansion_of(code) != nullptr;
}

bool is_case_ignorable(char32_t code) {
  constexpr std::u32string_view kSigns =
      U"'.:^`\u00A8\u00AD\u00AF\u00B4\u00B7\u00B8\u2018\u2019\u2024\u2027\u2060\uFEFF";
  return kSigns.find(code) != kSigns.npos || (code >= 0x2B0 && code <= 0x36F) ||
         (code >= 0x200B && code <= 0x200F) || (code >= 0x202A && code <= 0x202E) ||
         (code >= 0x1F3FB && code <= 0x1F3FF);
}

void append_upper(char32_t code, std::string& out) {
  const Expansion* expansion = code < 0x80 ? nullptr : expansion_of(code);
  if (expansion != nullptr) {
    out += expansion->upper;
  } else {
    append_utf8(to_upper(code), out);
  }
}

void append_title(char32_t code, std::string& out) {
  const Expansion* expansion = code < 0x80 ? nullptr : expansion_of(code);
  if (expansion != nullptr) {
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
