#include "engine/text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "engine/text/utf8.h"
#include "models/model_config.h"

namespace quire {
namespace {

constexpr std::string_view kSpaceMarker = "\xE2\x96\x81";  // ▁
constexpr size_t kMinPartBytes = 1 << 16;                  // less is not worth a thread
constexpr size_t kMaxRememberedWordBytes = 256;            // longer words hardly come back
constexpr size_t kMaxRememberedWords = 1 << 16;            // bounds the memory of one part
constexpr size_t kBytesPerExpectedToken = 3;               // of what is reserved, not of the result
constexpr size_t kMaxModelBytes = size_t{256} << 20;

bool is_plain(char c) { return c > 0x20 && c < 0x7F; }
bool is_white(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff num_bytes = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (num_bytes < 0) throw LoadError(path.string() + ": cannot be read");
  if (static_cast<size_t>(num_bytes) > kMaxModelBytes) {
    throw LoadError(path.string() + ": " + std::to_string(num_bytes) + " bytes is no tokenizer");
  }
  std::string bytes(static_cast<size_t>(num_bytes), '\0');
  file.seekg(0);
  if (!file.read(bytes.data(), num_bytes)) throw LoadError(path.string() + ": cannot be read");
  return bytes;
}

/// The vocabulary's name of a byte, "<0x0A>".
std::string byte_name(char character) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(character);
  return std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">";
}

std::string byte_of(const std::string& name) {
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_name(static_cast<char>(byte)) == name) return std::string(1, static_cast<char>(byte));
  }
  throw LoadError("tokenizer: byte piece '" + name + "'");
}

std::string with_spaces(const std::string& name) {
  std::string bytes;
  for (size_t i = 0; i < name.size();) {
    const bool is_marker = name.compare(i, kSpaceMarker.size(), kSpaceMarker) == 0;
    bytes += is_marker ? ' ' : name[i];
    i += is_marker ? kSpaceMarker.size() : 1;
  }
  return bytes;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& model_file,
                                               int num_threads, Bos bos)
    : SentencePieceTokenizer(read_file(model_file), model_file.string(), num_threads) {
  if (bos == Bos::kNone) bos_.reset();
}

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view model,
                                               const std::string& source_name, int num_threads)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()),
      num_threads_(std::max(num_threads, 1)) {
  const std::optional<std::vector<PieceType>> types = read_piece_types(model);
  if (!types || types->empty()) throw LoadError(source_name + ": not a SentencePiece model");
  const auto status = processor_->LoadFromSerializedProto({model.data(), model.size()});
  if (!status.ok()) throw LoadError(source_name + ": " + status.ToString());
  if (processor_->GetPieceSize() != static_cast<int>(types->size())) {
    throw LoadError(source_name + ": " + std::to_string(types->size()) + " pieces, but " +
                    std::to_string(processor_->GetPieceSize()) + " were loaded");
  }
  load_pieces(*types);
  if (processor_->bos_id() >= 0) bos_ = processor_->bos_id();
  examine_cuts();
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::load_pieces(const std::vector<PieceType>& types) {
  pieces_.resize(types.size());
  spelled_.resize(types.size());
  for (TokenId id = 0; id < vocab_size(); ++id) {
    const PieceType type = types[static_cast<size_t>(id)];
    const std::string& name = processor_->IdToPiece(id);
    Piece& piece = pieces_[static_cast<size_t>(id)];
    piece.name = name;
    piece.is_special = type == PieceType::kControl || type == PieceType::kUnknown ||
                       type == PieceType::kUserDefined;
    if (piece.is_special) {
      special_tokens_.emplace(name, id);
      if (type == PieceType::kUserDefined) spelled_[static_cast<size_t>(id)] = spell(name);
    } else {
      piece.bytes = type == PieceType::kByte ? byte_of(name) : with_spaces(name);
    }
  }
}

/// A special token's name as ordinary text: character pieces, bytes where there are none.
std::vector<TokenId> SentencePieceTokenizer::spell(const std::string& name) const {
  std::vector<TokenId> ids;
  for (const char character : name) {
    const TokenId id = processor_->PieceToId(std::string(1, character));
    ids.push_back(processor_->IsUnknown(id) ? processor_->PieceToId(byte_name(character)) : id);
  }
  return ids;
}

void SentencePieceTokenizer::examine_cuts() {
  may_cut_ = encode_in_one_call("a").size() >= 1 &&
             processor_->IdToPiece(encode_in_one_call("a").front()).starts_with(kSpaceMarker);
  for (TokenId id = 0; id < vocab_size() && may_cut_; ++id) {
    const std::string& name = processor_->IdToPiece(id);
    size_t leading = 0;
    while (name.compare(leading, kSpaceMarker.size(), kSpaceMarker) == 0) {
      leading += kSpaceMarker.size();
    }
    may_cut_ = name.find(kSpaceMarker, leading) == std::string::npos &&
               name.find(' ') == std::string::npos;
  }
  const std::vector<TokenId> one_space = encode_in_one_call("a b");
  may_cut_at_runs_ = may_cut_;
  for (const char* run : {"a\nb", "a\tb", "a\rb", "a  b", "a \n\n\t b", "a\r\n\r\n   b"}) {
    may_cut_at_runs_ = may_cut_at_runs_ && encode_in_one_call(run) == one_space;
  }
}

void SentencePieceTokenizer::encode_call(std::string_view text, std::vector<TokenId>& out) const {
  std::vector<int> ids;
  processor_->Encode({text.data(), text.size()}, &ids).IgnoreError();
  for (const TokenId id : ids) {
    const std::vector<TokenId>& spelled = spelled_[static_cast<size_t>(id)];
    if (spelled.empty()) {
      out.push_back(id);
    } else {
      out.insert(out.end(), spelled.begin(), spelled.end());
    }
  }
}

std::vector<TokenId> SentencePieceTokenizer::encode_in_one_call(std::string_view text) const {
  std::vector<TokenId> out;
  encode_call(is_valid_utf8(text) ? text : replace_invalid_utf8(text), out);
  return out;
}

/// The next place at or behind `from` where the text may be cut: [result, *cut_end) falls away.
/// npos when there is none.
size_t SentencePieceTokenizer::find_cut(std::string_view text, size_t from, size_t* cut_end) const {
  for (size_t i = std::max<size_t>(from, 1); i + 1 < text.size(); ++i) {
    if (!is_white(text[i])) continue;
    size_t end = i + 1;
    while (end < text.size() && is_white(text[end])) ++end;
    const bool is_single_space = end == i + 1 && text[i] == ' ';
    const bool is_flanked = is_plain(text[i - 1]) && end < text.size() && is_plain(text[end]);
    if (is_flanked && (is_single_space || may_cut_at_runs_)) {
      *cut_end = end;
      return i;
    }
    i = end - 1;
  }
  return std::string_view::npos;
}

/// Encodes one part word by word. A word that any text held before is copied from the tokenizer's
/// memory; one that does not fit into it, from where it stood in this part.
class SentencePieceTokenizer::PartEncoder {
 public:
  PartEncoder(const SentencePieceTokenizer& tokenizer, WordMemory& memory)
      : tokenizer_(tokenizer), memory_(memory) {}

  std::vector<TokenId> encode(std::string_view part) {
    ids_.reserve(part.size() / kBytesPerExpectedToken);
    while (!part.empty()) {
      size_t cut_end = part.size();
      const size_t cut = std::min(tokenizer_.find_cut(part, 1, &cut_end), part.size());
      append_word(part.substr(0, cut));
      part.remove_prefix(cut_end);
    }
    return std::move(ids_);
  }

 private:
  void append_word(std::string_view word) {
    if (word.size() <= WordMemory::kMaxWordBytes) {
      const std::span<const TokenId> known = memory_.find(word);
      if (!known.empty()) {
        ids_.insert(ids_.end(), known.begin(), known.end());
        return;
      }
    }
    const auto place = places_.find(word);
    if (place != places_.end()) {
      const auto [begin, count] = place->second;
      for (size_t i = 0; i < count; ++i) ids_.push_back(ids_[begin + i]);
      return;
    }
    const size_t begin = ids_.size();
    tokenizer_.encode_call(word, ids_);
    remember(word, begin);
  }

  void remember(std::string_view word, size_t begin) {
    const auto ids = std::span<const TokenId>(ids_).subspan(begin);
    if (word.size() <= WordMemory::kMaxWordBytes && memory_.remember(word, ids)) return;
    if (word.size() <= kMaxRememberedWordBytes && places_.size() < kMaxRememberedWords) {
      places_.emplace(word, std::make_pair(begin, ids.size()));
    }
  }

  const SentencePieceTokenizer& tokenizer_;
  WordMemory& memory_;
  std::vector<TokenId> ids_;
  // Words of the text itself and where their ids stand in ids_: nothing is copied.
  std::unordered_map<std::string_view, std::pair<size_t, size_t>> places_;
};

std::vector<std::string_view> SentencePieceTokenizer::cut_into_parts(std::string_view text) const {
  std::vector<std::string_view> parts;
  const size_t part_bytes =
      std::max(kMinPartBytes, text.size() / static_cast<size_t>(num_threads_) + 1);
  while (text.size() > part_bytes) {
    size_t cut_end = 0;
    const size_t cut = find_cut(text, part_bytes, &cut_end);
    if (cut == std::string_view::npos) break;
    parts.push_back(text.substr(0, cut));
    text.remove_prefix(cut_end);
  }
  parts.push_back(text);
  return parts;
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text) const {
  if (!is_valid_utf8(text)) return encode(replace_invalid_utf8(text));
  if (!may_cut_) return encode_in_one_call(text);
  const std::vector<std::string_view> parts = cut_into_parts(text);
  const std::shared_ptr<WordMemory> memory = memory_.get();
  std::vector<std::vector<TokenId>> ids(parts.size());
  {
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < parts.size(); ++i) {
      threads.emplace_back([&, i] { ids[i] = PartEncoder(*this, *memory).encode(parts[i]); });
    }
    ids[0] = PartEncoder(*this, *memory).encode(parts[0]);
  }
  size_t num_ids = 0;
  for (const std::vector<TokenId>& part : ids) num_ids += part.size();
  ids[0].reserve(num_ids);
  for (size_t i = 1; i < ids.size(); ++i) ids[0].insert(ids[0].end(), ids[i].begin(), ids[i].end());
  return std::move(ids[0]);
}

const SentencePieceTokenizer::Piece& SentencePieceTokenizer::piece_of(TokenId token) const {
  static const Piece kNoPiece{.name = {}, .bytes = {}, .is_special = true};
  const auto index = static_cast<size_t>(token);
  return index < pieces_.size() ? pieces_[index] : kNoPiece;
}

void SentencePieceTokenizer::append_piece(TokenId token, std::string& out_bytes) const {
  out_bytes += piece_of(token).bytes;
}

std::optional<TokenId> SentencePieceTokenizer::special_token(std::string_view name) const {
  const auto found = special_tokens_.find(std::string(name));
  return found == special_tokens_.end() ? std::nullopt : std::optional(found->second);
}

bool SentencePieceTokenizer::is_special(TokenId token) const { return piece_of(token).is_special; }

std::string SentencePieceTokenizer::piece_name(TokenId token) const { return piece_of(token).name; }

std::string SentencePieceTokenizer::decode(const std::vector<TokenId>& tokens,
                                           bool skip_special) const {
  std::string bytes;
  bool at_part_start = true;
  for (const TokenId token : tokens) {
    if (is_special(token)) {
      if (!skip_special) bytes += piece_name(token);
      at_part_start = true;
      continue;
    }
    const size_t start = bytes.size();
    append_piece(token, bytes);
    if (at_part_start && bytes.size() > start && bytes[start] == ' ') bytes.erase(start, 1);
    at_part_start = false;
  }
  return is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes);
}

}  // namespace quire
