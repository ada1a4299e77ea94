#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/ids.h"
#include "engine/text/bpe/merge_table.h"

namespace quire {

/// Byte pair encoding of one piece of text: its characters (or bytes) as tokens, then merges.
/// Immutable, thread-safe.
class BpeModel {
 public:
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Vocab = std::unordered_map<std::string, TokenId, TextHash, std::equal_to<>>;

  struct Spec {
    /// What text can become; in byte-level models by their bytes, not as they are spelled.
    Vocab vocab;
    /// Two texts that become one, the first in the list first. Each, and both together, must be in
    /// `vocab`.
    std::vector<std::pair<std::string, std::string>> merges;
    /// Symbols are bytes. Otherwise they are characters.
    bool is_byte_level = false;
    /// A piece that is in the vocabulary is that token, whatever the merges make of it.
    bool ignores_merges = false;
    /// Characters that are in no vocabulary become tokens "<0x0A>".
    bool has_byte_fallback = false;
    /// Runs of unknown characters make one `unknown`.
    bool fuses_unknown = false;
    /// Without it unknown characters vanish.
    std::optional<TokenId> unknown;
  };

  using Scratch = MergeTable::Scratch;

  /// Throws LoadError, beginning with `where`, if a merge names what is not in the vocabulary, or a
  /// byte-level vocabulary lacks a byte.
  BpeModel(Spec spec, const std::string& where);

  /// Appends the ids. REQUIRES: piece is not empty, valid UTF-8 unless the model is byte-level, and
  /// shorter than 2 GiB.
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  static std::array<TokenId, 256> ids_of_bytes(const Spec& spec, const std::string& where);
  static MergeTable table_of(const Spec& spec, const std::string& where);
  void append_characters(std::string_view piece, std::vector<TokenId>& out) const;
  void append_unknown(std::string_view character, size_t begin, std::vector<TokenId>& out) const;

  Spec spec_;
  std::array<TokenId, 256> byte_ids_;  // byte-level: of the byte; otherwise of "<0x0A>", or -1
  MergeTable merges_;
};

}  // namespace quire
