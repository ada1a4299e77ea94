#include "engine/text/json_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "engine/text/incremental_decoder.h"
#include "engine/text/json_tokenizer_reader.h"
#include "engine/text/utf8.h"
#include "models/strict_json.h"

namespace quire {
namespace {

constexpr std::string_view kSpaceMarker = "\u2581";
constexpr int kMaxJsonDepth = 24;
constexpr size_t kBytesPerExpectedToken = 4;  // of what is reserved, not of the result

/// The next "▁" behind `from` that follows another character; the text's end if there is none.
size_t find_marker(std::string_view text, size_t from) {
  size_t pos = from;
  while (text.substr(pos).starts_with(kSpaceMarker)) pos += kSpaceMarker.size();
  return std::min(text.find(kSpaceMarker, pos), text.size());
}

/// Whether pieces may be cut before every "▁" that follows another character.
bool never_crosses_marker(const BpeModel::Spec& spec) {
  if (spec.is_byte_level || spec.ignores_merges) return false;
  const auto crosses = [](const auto& entry) {
    return find_marker(entry.first, 0) != entry.first.size();
  };
  return spec.vocab.count(std::string(kSpaceMarker)) != 0 &&
         std::none_of(spec.vocab.begin(), spec.vocab.end(), crosses);
}

}  // namespace

/// Reads the parts of the file in the order in which one needs the other.
struct JsonTokenizer::Reader {
  JsonTokenizer& out;
  const std::string& source_name;
  const JsonFields& fields;
  std::vector<AddedToken> added;
  BpeModelJson model;

  void read() {
    fields.refuse_other_keys({"version", "truncation", "padding", "added_tokens", "normalizer",
                              "pre_tokenizer", "post_processor", "decoder", "model"});
    if (const auto* json = fields.find("normalizer")) {
      out.normalizer_ = TextNormalizer(*json, source_name);
    }
    if (const auto* json = fields.find("pre_tokenizer")) {
      out.pre_tokenizer_ = PreTokenizer(*json, source_name);
    }
    if (const auto* json = fields.find("added_tokens"))
      added = read_added_tokens(*json, source_name);
    const auto* json = fields.find("model");
    if (json == nullptr) fields.fail("model", "missing");
    model = read_bpe_model(*json, source_name);
    read_pieces();
    read_model();
    if (const auto* processor = fields.find("post_processor")) {
      out.bos_ = read_bos(*processor, source_name);
      if (out.bos_ && *out.bos_ >= out.vocab_size()) fields.fail("post_processor", "unknown token");
    }
  }

  void read_pieces() {
    for (const auto& [name, id] : model.vocab) place(id, name, "vocab");
    for (const AddedToken& token : added) {
      const auto known = model.vocab.find(token.content);
      if (known != model.vocab.end() && known->second != token.id) {
        fields.fail("added_tokens", describe_json(token.content) + " has another id in the model");
      }
      Piece& piece = place(token.id, token.content, "added_tokens");
      piece.is_special = token.is_special;
      if (token.is_special && !out.special_tokens_.emplace(token.content, token.id).second) {
        fields.fail("added_tokens", describe_json(token.content) + " stands twice");
      }
      AddedTokenFinder& finder =
          token.is_normalized ? out.added_in_normalized_ : out.added_in_text_;
      finder.add(token,
                 token.is_normalized ? out.normalizer_.normalize(token.content) : token.content);
    }
    const auto* json = fields.find("decoder");
    if (json == nullptr) fields.fail("decoder", "missing");
    const TokenDecoder decoder = read_token_decoder(*json, source_name);
    out.drops_first_space_ = decoder.drops_first_space;
    for (Piece& piece : out.pieces_) {
      if (!piece.is_special) piece.bytes = decoder.bytes_of(piece.name);
    }
  }

  Piece& place(TokenId id, const std::string& name, const char* key) {
    const auto index = static_cast<size_t>(id);
    if (index >= out.pieces_.size()) out.pieces_.resize(index + 1);
    Piece& piece = out.pieces_[index];
    if (!piece.name.empty() && piece.name != name) {
      fields.fail(key, "id " + std::to_string(id) + " is of two tokens");
    }
    piece.name = name;
    return piece;
  }

  void read_model() {
    std::unordered_set<std::string> special;
    for (const AddedToken& token : added) {
      if (token.is_special) special.insert(token.content);
    }
    const std::string where = source_name + ": model";
    BpeModel::Spec spec = model.to_spec(special, out.pre_tokenizer_.is_byte_level(), where);
    out.may_cut_at_marker_ = never_crosses_marker(spec);
    out.model_.emplace(std::move(spec), where);
  }
};

JsonTokenizer::JsonTokenizer(std::string_view json, const std::string& source_name) {
  const nlohmann::json parsed = parse_json(json, source_name, kMaxJsonDepth);
  const JsonFields fields(parsed, source_name);
  Reader{*this, source_name, fields, {}, {}}.read();
}

/// Encodes pieces in their order. A short one that any text held before is copied from the
/// tokenizer's memory.
class JsonTokenizer::PieceEncoder final : public PreTokenizer::Sink {
 public:
  PieceEncoder(const JsonTokenizer& tokenizer, WordMemory& memory, size_t num_bytes)
      : tokenizer_(tokenizer), memory_(memory) {
    ids_.reserve(num_bytes / kBytesPerExpectedToken);
  }

  void on_piece(std::string_view piece) override {
    while (tokenizer_.may_cut_at_marker_ && !piece.empty()) {
      const size_t cut = find_marker(piece, 0);
      append_word(piece.substr(0, cut));
      piece.remove_prefix(cut);
    }
    if (!piece.empty()) append_word(piece);
  }

  void on_token(TokenId token) { ids_.push_back(token); }
  std::vector<TokenId> take_ids() { return std::move(ids_); }

 private:
  void append_word(std::string_view word) {
    const bool is_short = word.size() <= WordMemory::kMaxWordBytes;
    if (is_short) {
      const std::span<const TokenId> known = memory_.find(word);
      if (!known.empty()) {
        ids_.insert(ids_.end(), known.begin(), known.end());
        return;
      }
    }
    const size_t begin = ids_.size();
    tokenizer_.model_->encode(word, scratch_, ids_);
    if (is_short) memory_.remember(word, std::span<const TokenId>(ids_).subspan(begin));
  }

  const JsonTokenizer& tokenizer_;
  WordMemory& memory_;
  BpeModel::Scratch scratch_;
  std::vector<TokenId> ids_;
};

/// As in SentencePieceTokenizer: a memory that is full makes room for a new one.
std::shared_ptr<WordMemory> JsonTokenizer::current_memory() const {
  const std::lock_guard lock(memory_mutex_);
  if (!memory_ || memory_->is_full()) memory_ = std::make_shared<WordMemory>();
  return memory_;
}

std::vector<TokenId> JsonTokenizer::encode(std::string_view text) const {
  if (!is_valid_utf8(text)) return encode(replace_invalid_utf8(text));
  const std::shared_ptr<WordMemory> memory = current_memory();
  PieceEncoder encoder(*this, *memory, text.size());
  const auto on_token = [&](TokenId token) { encoder.on_token(token); };
  added_in_text_.split(
      text,
      [&](std::string_view part, size_t part_start) {
        std::string changed;
        if (!normalizer_.is_identity()) {
          changed = normalizer_.normalize(part);
          part = changed;
        }
        added_in_normalized_.split(
            part,
            [&](std::string_view words, size_t start) {
              pre_tokenizer_.split(words, part_start == 0 && start == 0, encoder);
            },
            on_token);
      },
      on_token);
  return encoder.take_ids();
}

void JsonTokenizer::append_piece(TokenId token, std::string& out_bytes) const {
  out_bytes += pieces_.at(static_cast<size_t>(token)).bytes;
}

std::optional<TokenId> JsonTokenizer::special_token(std::string_view name) const {
  const auto found = special_tokens_.find(std::string(name));
  return found == special_tokens_.end() ? std::nullopt : std::optional(found->second);
}

bool JsonTokenizer::is_special(TokenId token) const {
  return pieces_.at(static_cast<size_t>(token)).is_special;
}

std::string JsonTokenizer::piece_name(TokenId token) const {
  return pieces_.at(static_cast<size_t>(token)).name;
}

std::string JsonTokenizer::decode(const std::vector<TokenId>& tokens, bool skip_special) const {
  IncrementalDecoder decoder(*this,
                             skip_special ? IncrementalDecoder::SpecialTokens::kSkip
                                          : IncrementalDecoder::SpecialTokens::kShow,
                             IncrementalDecoder::FirstSpace::kDrop);
  std::string text;
  for (const TokenId token : tokens) text += decoder.push(token);
  return text + decoder.flush();
}

}  // namespace quire
