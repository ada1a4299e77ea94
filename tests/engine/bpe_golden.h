#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "engine/core/ids.h"

// The texts and ids that models/tools/make_bpe_golden.py writes.

namespace quire {

using Ids = std::vector<TokenId>;

inline void append_character(uint32_t c, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    tail(6);
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    tail(12);
    tail(6);
  }
  if (c >= 0x80) tail(0);
}

/// Parts are [text, times], or all code points of some ranges with a text between them.
inline std::string text_of(const nlohmann::json& parts) {
  std::string text;
  for (const nlohmann::json& part : parts) {
    if (part.is_object()) {
      const std::string between = part.at("between");
      const size_t begin = text.size();
      for (const nlohmann::json& range : part.at("ranges")) {
        for (uint32_t c = range.at(0); c <= range.at(1).get<uint32_t>(); ++c) {
          if (text.size() > begin) text += between;
          append_character(c, text);
        }
      }
      continue;
    }
    const std::string unit = part.at(0);
    for (int i = part.at(1).get<int>(); i > 0; --i) text += unit;
  }
  return text;
}

/// FNV-1a, a word at a time.
inline std::string hash_of(const Ids& ids) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const TokenId id : ids) value = (value ^ static_cast<uint32_t>(id)) * 0x100000001B3u;
  std::ostringstream text;
  text << std::hex << std::setw(16) << std::setfill('0') << value;
  return text.str();
}

inline Ids ids_of(const nlohmann::json& runs) {
  Ids ids;
  for (const nlohmann::json& run : runs) {
    if (run.is_array()) {
      ids.insert(ids.end(), run.at(1).get<size_t>(), run.at(0).get<TokenId>());
    } else {
      ids.push_back(run.get<TokenId>());
    }
  }
  return ids;
}

/// `golden` lists the ids, or has their number and hash.
inline void check_ids(const Ids& ids, const nlohmann::json& golden) {
  if (golden.is_array()) {
    CHECK(ids == ids_of(golden));
  } else {
    CHECK(ids.size() == golden.at("count"));
    CHECK(hash_of(ids) == golden.at("hash"));
  }
}

}  // namespace quire
