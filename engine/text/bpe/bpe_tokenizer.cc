#include "engine/text/bpe/bpe_tokenizer.h"

#include <algorithm>
#include <unordered_set>

#include "engine/text/bpe/byte_alphabet.h"
#include "engine/text/incremental_decoder.h"
#include "engine/text/utf8.h"
#include "models/model_config.h"

namespace quire {
namespace {

constexpr std::string_view kSpaceMarker = "\u2581";
constexpr size_t kBytesPerExpectedToken = 4;  // of what is reserved, not of the result

/// The next "▁" behind the start that follows another character; the text's end if there is none.
size_t find_marker(std::string_view text) {
  size_t pos = 0;
  while (text.substr(pos).starts_with(kSpaceMarker)) pos += kSpaceMarker.size();
  return std::min(text.find(kSpaceMarker, pos), text.size());
}

/// Whether pieces may be cut before every "▁" that follows another character.
bool never_crosses_marker(const BpeTokenizerSpec& spec) {
  if (spec.is_byte_level || spec.ignores_merges) return false;
  const auto crosses = [](const auto& entry) {
    return find_marker(entry.first) != entry.first.size();
  };
  return spec.vocab.count(std::string(kSpaceMarker)) != 0 &&
         std::none_of(spec.vocab.begin(), spec.vocab.end(), crosses);
}

std::string spelled_bytes(const std::string& name, const std::string& where) {
  std::optional<std::string> bytes = bytes_of_spelling(name);
  if (!bytes) {
    throw LoadError(where + ": merge of '" + replace_invalid_utf8(name) + "', which is no bytes");
  }
  return *std::move(bytes);
}

/// What text can become: without control tokens, whose spelling stays text.
BpeModel::Spec model_spec(const BpeTokenizerSpec& spec, const std::string& where) {
  BpeModel::Spec result{.vocab = {},
                        .merges = spec.merges,
                        .is_byte_level = spec.is_byte_level,
                        .ignores_merges = spec.ignores_merges,
                        .has_byte_fallback = spec.has_byte_fallback,
                        .fuses_unknown = spec.fuses_unknown,
                        .unknown = std::nullopt};
  if (!spec.unknown.empty()) {
    const auto found = spec.vocab.find(spec.unknown);
    if (found == spec.vocab.end()) throw LoadError(where + ": unk_token is not in the vocabulary");
    result.unknown = found->second;
  }
  std::unordered_set<std::string_view> control;
  for (const AddedToken& token : spec.added_tokens) {
    if (token.is_control()) control.insert(token.content);
  }
  for (const auto& [name, id] : spec.vocab) {
    if (control.count(name) != 0) continue;
    const std::optional<std::string> text = spec.is_byte_level ? bytes_of_spelling(name) : name;
    if (text) result.vocab.emplace(*text, id);
  }
  if (spec.is_byte_level) {
    for (auto& [left, right] : result.merges) {
      left = spelled_bytes(left, where);
      right = spelled_bytes(right, where);
    }
  }
  return result;
}

}  // namespace

BpeTokenizer::BpeTokenizer(BpeTokenizerSpec spec, const std::string& source_name)
    : normalizer_(std::move(spec.normalizer)),
      pre_tokenizer_(std::move(spec.pre_tokenizer)),
      model_(model_spec(spec, source_name + ": model"), source_name + ": model"),
      may_cut_at_marker_(never_crosses_marker(spec)),
      bos_(spec.bos),
      drops_first_space_(spec.decoder.drops_first_space) {
  load_pieces(spec, source_name);
  if (bos_ && (*bos_ < 0 || *bos_ >= vocab_size())) {
    throw LoadError(source_name + ": begins texts with token " + std::to_string(*bos_) + " of " +
                    std::to_string(vocab_size()));
  }
}

void BpeTokenizer::load_pieces(const BpeTokenizerSpec& spec, const std::string& source_name) {
  for (const auto& [name, id] : spec.vocab) place(id, name, source_name);
  for (const AddedToken& token : spec.added_tokens) {
    const std::string where =
        source_name + ": added_tokens: '" + replace_invalid_utf8(token.content) + "'";
    const auto known = spec.vocab.find(token.content);
    if (known != spec.vocab.end() && known->second != token.id) {
      throw LoadError(where + " has another id in the model");
    }
    place(token.id, token.content, source_name);
    Piece& piece = pieces_[static_cast<size_t>(token.id)];
    piece.is_special = token.is_special;
    piece.is_control = token.is_control();
    piece.takes_space_left = token.takes_space_left;
    piece.takes_space_right = token.takes_space_right;
    if (token.is_special && !special_tokens_.emplace(token.content, token.id).second) {
      throw LoadError(where + " stands twice");
    }
    AddedTokenFinder& finder = token.is_normalized ? added_in_normalized_ : added_in_text_;
    finder.add(token, token.is_normalized ? normalizer_.normalize(token.content) : token.content);
  }
  for (Piece& piece : pieces_) {
    if (!piece.is_special) piece.bytes = spec.decoder.bytes_of(piece.name);
  }
}

void BpeTokenizer::place(TokenId id, const std::string& name, const std::string& source_name) {
  if (id < 0 || id >= kMaxTokenizerTokens) {
    throw LoadError(source_name + ": " + std::to_string(id) + " is no token id");
  }
  const auto index = static_cast<size_t>(id);
  if (index >= pieces_.size()) pieces_.resize(index + 1);
  Piece& piece = pieces_[index];
  if (!piece.name.empty() && piece.name != name) {
    throw LoadError(source_name + ": id " + std::to_string(id) + " is of two tokens");
  }
  piece.name = name;
}

/// Encodes pieces in their order. A short one that any text held before is copied from the
/// tokenizer's memory.
class BpeTokenizer::PieceEncoder final : public PreTokenizer::Sink {
 public:
  PieceEncoder(const BpeTokenizer& tokenizer, WordMemory& memory, size_t num_bytes)
      : tokenizer_(tokenizer), memory_(memory) {
    ids_.reserve(num_bytes / kBytesPerExpectedToken);
  }

  void on_piece(std::string_view piece) override {
    while (tokenizer_.may_cut_at_marker_ && !piece.empty()) {
      const size_t cut = find_marker(piece);
      append_word(piece.substr(0, cut));
      piece.remove_prefix(cut);
    }
    if (!piece.empty()) append_word(piece);
  }

  void on_token(TokenId token) { ids_.push_back(token); }
  std::vector<TokenId> take_ids() { return std::move(ids_); }
  Work work() const { return {num_pieces_, scratch_.num_queued}; }

 private:
  void append_word(std::string_view word) {
    ++num_pieces_;
    const bool is_short = word.size() <= WordMemory::kMaxWordBytes;
    if (is_short) {
      const std::span<const TokenId> known = memory_.find(word);
      if (!known.empty()) {
        ids_.insert(ids_.end(), known.begin(), known.end());
        return;
      }
    }
    const size_t begin = ids_.size();
    tokenizer_.model_.encode(word, scratch_, ids_);
    if (is_short) memory_.remember(word, std::span<const TokenId>(ids_).subspan(begin));
  }

  const BpeTokenizer& tokenizer_;
  WordMemory& memory_;
  BpeModel::Scratch scratch_;
  std::vector<TokenId> ids_;
  size_t num_pieces_ = 0;
};

void BpeTokenizer::encode_pieces(std::string_view text, bool starts_prompt,
                                 PieceEncoder& encoder) const {
  const auto on_token = [&](TokenId token) { encoder.on_token(token); };
  const auto on_part = [&](std::string_view part, size_t part_start) {
    std::string changed;
    if (!normalizer_.is_identity()) {
      changed = normalizer_.normalize(part);
      part = changed;
    }
    const auto on_words = [&](std::string_view words, size_t start) {
      pre_tokenizer_.split(words, starts_prompt && part_start == 0 && start == 0, encoder);
    };
    added_in_normalized_.split(part, on_words, on_token);
  };
  added_in_text_.split(text, on_part, on_token);
}

std::vector<TokenId> BpeTokenizer::encode_part(std::string_view text, bool starts_prompt) const {
  if (!is_valid_utf8(text)) return encode_part(replace_invalid_utf8(text), starts_prompt);
  const std::shared_ptr<WordMemory> memory = memory_.get();
  PieceEncoder encoder(*this, *memory, text.size());
  encode_pieces(text, starts_prompt, encoder);
  return encoder.take_ids();
}

std::vector<TokenId> BpeTokenizer::encode(std::string_view text) const {
  return encode_part(text, true);
}

std::vector<TokenId> BpeTokenizer::encode_behind_token(std::string_view text) const {
  return encode_part(text, false);
}

std::vector<TokenId> BpeTokenizer::encode_counting(std::string_view text, Work& work) const {
  WordMemory memory;
  PieceEncoder encoder(*this, memory, text.size());
  encode_pieces(text, true, encoder);
  work = encoder.work();
  return encoder.take_ids();
}

const BpeTokenizer::Piece& BpeTokenizer::piece_of(TokenId token) const {
  static const Piece kNoPiece{.name = {},
                              .bytes = {},
                              .is_special = true,
                              .is_control = true,
                              .takes_space_left = false,
                              .takes_space_right = false};
  const auto index = static_cast<size_t>(token);
  return index < pieces_.size() ? pieces_[index] : kNoPiece;
}

void BpeTokenizer::append_piece(TokenId token, std::string& out_bytes) const {
  out_bytes += piece_of(token).bytes;
}

std::optional<TokenId> BpeTokenizer::special_token(std::string_view name) const {
  const auto found = special_tokens_.find(std::string(name));
  return found == special_tokens_.end() ? std::nullopt : std::optional(found->second);
}

bool BpeTokenizer::is_special(TokenId token) const { return piece_of(token).is_special; }
bool BpeTokenizer::is_control(TokenId token) const { return piece_of(token).is_control; }

bool BpeTokenizer::takes_space_left(TokenId token) const {
  return piece_of(token).takes_space_left;
}

bool BpeTokenizer::takes_space_right(TokenId token) const {
  return piece_of(token).takes_space_right;
}

std::string BpeTokenizer::piece_name(TokenId token) const { return piece_of(token).name; }

std::string BpeTokenizer::decode(const std::vector<TokenId>& tokens, bool skip_special) const {
  IncrementalDecoder decoder(*this,
                             skip_special ? IncrementalDecoder::SpecialTokens::kSkip
                                          : IncrementalDecoder::SpecialTokens::kShow,
                             IncrementalDecoder::FirstSpace::kDrop);
  std::string text;
  for (const TokenId token : tokens) text += decoder.push(token);
  return text + decoder.flush();
}

}  // namespace quire
