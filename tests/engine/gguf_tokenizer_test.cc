// The tokenizer inside a GGUF: the bundled SentencePiece model, written as GGUF writes such models,
// gives the ids of its tokenizer.model.

#include "engine/text/gguf_tokenizer.h"

#include <sentencepiece_processor.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "engine/text/gguf_sentencepiece.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "engine/text/sentencepiece_types.h"
#include "models/model_config.h"
#include "tests/engine/hostile_texts.h"
#include "tests/models/gguf_builder.h"
#include "tests/models/model_folder.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;
using test::GgufBuilder;
using test::load_error_of;
using test::TemporaryFolder;

const std::filesystem::path kModelDir = QUIRE_BUNDLED_MODEL;

/// What the bundled tokenizer.model says, as lists; a test may bend it.
struct Lists {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  std::string charsmap;
};

const Lists& bundled_lists() {
  static const Lists lists = [] {
    std::ifstream file(kModelDir / "tokenizer.model", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    sentencepiece::SentencePieceProcessor processor;
    REQUIRE(processor.LoadFromSerializedProto(bytes).ok());
    Lists result;
    const std::optional<std::vector<PieceType>> types = read_piece_types(bytes);
    for (const PieceType type : *types) {
      const auto id = static_cast<int>(result.tokens.size());
      result.tokens.push_back(processor.IdToPiece(id));
      result.scores.push_back(processor.GetScore(id));
      result.types.push_back(static_cast<int32_t>(type));
    }
    // The normaliser's name, then its table: a field of bytes whose length has three digits of 7
    // bits.
    const size_t at = bytes.find("nmt_nfkc\x12") + 9;
    size_t length = 0;
    for (size_t i = 0; i < 3; ++i) {
      length |= static_cast<size_t>(bytes[at + i] & 0x7F) << (7 * i);
    }
    result.charsmap = bytes.substr(at + 3, length);
    return result;
  }();
  return lists;
}

GgufBuilder as_gguf(const Lists& lists) {
  GgufBuilder builder;
  builder.add_text("tokenizer.ggml.model", "llama")
      .add_texts("tokenizer.ggml.tokens", lists.tokens)
      .add_floats("tokenizer.ggml.scores", lists.scores)
      .add_integers("tokenizer.ggml.token_type", lists.types)
      .add_bytes("tokenizer.ggml.precompiled_charsmap", lists.charsmap)
      .add_boolean("tokenizer.ggml.remove_extra_whitespaces", true)
      .add_u32("tokenizer.ggml.bos_token_id", 1)
      .add_u32("tokenizer.ggml.eos_token_id", 6);
  return builder;
}

std::unique_ptr<Tokenizer> load(const GgufBuilder& builder) {
  const TemporaryFolder folder;
  folder.write("t.gguf", builder.bytes());
  return load_tokenizer(folder.path() / "t.gguf", 2);
}

std::string error_of(const GgufBuilder& builder) {
  return load_error_of([&] { load(builder); });
}

TEST_CASE("a GGUF's SentencePiece tokenizer gives the ids of tokenizer.model") {
  const auto from_gguf = load(as_gguf(bundled_lists()));
  const SentencePieceTokenizer expected(kModelDir / "tokenizer.model", 2);
  REQUIRE(from_gguf->vocab_size() == expected.vocab_size());
  CHECK(from_gguf->bos() == expected.bos());
  Random random(5);
  std::vector<std::string> texts = {"", " ", "a", "<|user|>", "\n\n  x\t", "ﬁ ① Å é", "漢字🙂"};
  for (int i = 0; i < 50; ++i) texts.push_back(random_mixture(random, 40));
  for (const std::string& text : texts) {
    CAPTURE(text);
    REQUIRE(from_gguf->encode(text) == expected.encode(text));
  }
  for (TokenId id = 0; id < expected.vocab_size(); ++id) {
    CAPTURE(id);
    REQUIRE(from_gguf->is_special(id) == expected.is_special(id));
    REQUIRE(from_gguf->piece_name(id) == expected.piece_name(id));
  }
  CHECK(from_gguf->special_token("<|user|>") == expected.special_token("<|user|>"));
}

TEST_CASE("a GGUF may leave out the bos and the space in front") {
  const auto tokenizer = load(as_gguf(bundled_lists())
                                  .add_boolean("tokenizer.ggml.add_bos_token", false)
                                  .add_boolean("tokenizer.ggml.add_space_prefix", false));
  CHECK_FALSE(tokenizer->bos());
  CHECK(tokenizer->piece_name(tokenizer->encode("the").front()).front() == 't');
}

TEST_CASE("a GGUF whose tokenizer is unknown, absent or contradicts itself is refused by key") {
  CHECK_THAT(error_of(GgufBuilder()), Contains("'tokenizer.ggml.model': missing"));
  CHECK_THAT(error_of(GgufBuilder().add_text("tokenizer.ggml.model", "bert")),
             Contains("unknown tokenizer 'bert'"));
  CHECK_THAT(error_of(GgufBuilder().add_text("tokenizer.ggml.model", "llama")),
             Contains("'tokenizer.ggml.tokens': 0 tokens"));
  Lists lists = bundled_lists();
  lists.scores.pop_back();
  CHECK_THAT(error_of(as_gguf(lists)),
             Contains("'tokenizer.ggml.scores': 4095 entries for 4096 tokens"));
  lists = bundled_lists();
  lists.types[7] = 9;
  CHECK_THAT(error_of(as_gguf(lists)),
             Contains("'tokenizer.ggml.token_type': token 7 is of type 9"));
  lists = bundled_lists();
  lists.tokens[300] = lists.tokens[301];
  CHECK_THAT(error_of(as_gguf(lists)), Contains("t.gguf"));
  lists = bundled_lists();
  lists.types[0] = 1;  // no unknown token
  CHECK_THAT(error_of(as_gguf(lists)), Contains("t.gguf"));
}

TEST_CASE("a normaliser's table that would lead out of itself is refused") {
  const std::string& sound = bundled_lists().charsmap;
  REQUIRE(is_sound_charsmap(sound));
  for (const size_t size : {size_t{0}, size_t{3}, size_t{4}, size_t{1000}, sound.size() - 1}) {
    CAPTURE(size);
    CHECK_FALSE(is_sound_charsmap(sound.substr(0, size)));
  }
  const auto with_unit = [&](size_t index, uint32_t unit) {
    std::string bent = sound;
    for (size_t i = 0; i < 4; ++i) bent[4 + 4 * index + i] = static_cast<char>(unit >> (8 * i));
    return is_sound_charsmap(bent);
  };
  CHECK_FALSE(with_unit(0, 0x7FFFFC00u));           // children behind the trie
  CHECK_FALSE(with_unit(5, 0xFFFFFFFFu));           // a text behind the texts
  CHECK_FALSE(with_unit(9, (100000u << 10) | 97));  // likewise, of a unit that is followed
  Lists lists = bundled_lists();
  lists.charsmap[7] = '\x7F';
  CHECK_THAT(error_of(as_gguf(lists)),
             Contains("'tokenizer.ggml.precompiled_charsmap': 240007 bytes that are no sound"));
}

}  // namespace
}  // namespace quire
