#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/text/bpe_model.h"

namespace quire {

/// The "model" of a tokenizer.json, before it is known which of its words are special.
struct BpeModelJson {
  std::unordered_map<std::string, TokenId> vocab;  // as it is spelled; no id twice
  std::vector<std::pair<std::string, std::string>> merges;
  std::string unknown;  // empty: none
  bool ignores_merges = false;
  bool has_byte_fallback = false;
  bool fuses_unknown = false;

  /// What text can become: without the words in `special`, whose spelling stays text.
  BpeModel::Spec to_spec(const std::unordered_set<std::string>& special, bool is_byte_level,
                         const std::string& where) const;
};

/// Throws LoadError, as the other two.
BpeModelJson read_bpe_model(const nlohmann::json& json, const std::string& source_name);

/// How tokens read as text.
struct TokenDecoder {
  struct Replacement {
    std::string from;
    std::string to;
  };
  bool is_byte_level = false;
  bool has_byte_fallback = false;
  bool drops_first_space = false;
  std::vector<Replacement> replacements;

  std::string bytes_of(const std::string& name) const;
};
TokenDecoder read_token_decoder(const nlohmann::json& json, const std::string& source_name);

/// The token that the "post_processor" puts in front of a text.
std::optional<TokenId> read_bos(const nlohmann::json& json, const std::string& source_name);

}  // namespace quire
