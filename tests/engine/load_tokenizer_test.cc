#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/text/chat_template.h"
#include "engine/text/prompt_encoder.h"
#include "engine/text/tokenizer.h"
#include "models/strict_json.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;
using Ids = std::vector<TokenId>;
using Json = nlohmann::json;

Json read_golden(const char* name) {
  const std::string file = std::string(QUIRE_SOURCE_DIR "/tests/engine/data/") + name;
  return Json::parse(read_text_file(file, 16 << 20));
}

/// A tokenizer.json of models/tools/make_bpe_golden.py.
Json tokenizer_json(const std::string& name) {
  static const Json golden = read_golden("bpe_golden.json");
  for (const Json& entry : golden.at("cases")) {
    if (entry.at("name") == name) return entry.at("tokenizer");
  }
  throw std::runtime_error("no golden tokenizer " + name);
}

/// A folder that lives as long as this.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "tokenizer-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  void write(const char* file, const Json& json) const { std::ofstream(path_ / file) << json; }
  void copy_from_bundled(const char* file) const {
    std::filesystem::copy_file(std::filesystem::path(QUIRE_BUNDLED_MODEL) / file, path_ / file);
  }

  const std::filesystem::path& path() const { return path_; }
  std::unique_ptr<Tokenizer> load() const { return load_tokenizer(path_, 1); }
  /// The message with which the folder is refused; empty if it is not.
  std::string refusal() const {
    try {
      load();
    } catch (const LoadError& error) {
      return error.what();
    }
    return "";
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

TEST_CASE("Folders with a tokenizer.json give the ids that transformers gives") {
  // Written by models/tools/make_folder_golden.py.
  const Json golden = read_golden("tokenizer_folders.json");
  const Json& texts = golden.at("texts");
  for (const Json& entry : golden.at("cases")) {
    const Folder folder;
    folder.write("tokenizer.json", tokenizer_json(entry.at("tokenizer")));
    folder.write("config.json", {{"model_type", entry.at("model_type")}, {"vocab_size", 600}});
    if (!entry.at("tokenizer_config").is_null()) {
      folder.write("tokenizer_config.json", entry.at("tokenizer_config"));
    }
    CAPTURE(entry.at("name").get<std::string>());
    const auto tokenizer = folder.load();
    CHECK((tokenizer->bos() ? Ids{*tokenizer->bos()} : Ids{}) == entry.at("bos").get<Ids>());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string text = texts[i];
      CAPTURE(text);
      CHECK(tokenizer->encode(text) == entry.at("ids").at(i).get<Ids>());
      const Json& behind = entry.at("behind").at(i);  // null if the text spells a special token
      if (behind.is_null()) continue;
      CHECK(tokenizer->encode_behind_token(text) == behind.get<Ids>());
    }
  }
}

TEST_CASE("What the chat template writes comes from the template alone, special or not") {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer_json("qwen2"));
  const auto open = folder.load();
  const TokenId think = open->encode("<think>").at(0), tool = open->encode("<tool_call>").at(0);
  REQUIRE(open->encode("<think>").size() == 1);
  CHECK_FALSE(open->is_control(think));

  folder.write("tokenizer_config.json",
               {{"chat_template", "{{ messages[0].content }}<think>the house"}});
  const auto reserving = folder.load();
  CHECK(reserving->is_control(think));
  CHECK_FALSE(reserving->is_special(think));
  CHECK(reserving->encode("<think>").size() > 1);
  CHECK(reserving->encode("<tool_call>") == Ids{tool});
  CHECK(reserving->decode({think}, true) == "<think>");

  const auto chat = load_chat_template(folder.path());
  const auto prompt = chat->render({{"user", "<think> house"}}, {});
  REQUIRE(prompt.ok());
  const Ids ids = PromptEncoder(*reserving).encode(prompt.value());
  CHECK(std::count(ids.begin(), ids.end(), think) == 1);
  CHECK(reserving->decode(ids, true) == "<think> house<think>the house");

  // A word in no brackets is not the template's, however often it writes it.
  Json word = tokenizer_json("qwen2");
  const TokenId next = static_cast<TokenId>(open->vocab_size());
  word["added_tokens"].push_back({{"id", next}, {"content", "house"}});
  folder.write("tokenizer.json", word);
  CHECK(folder.load()->encode("house") == Ids{next});
}

TEST_CASE("A folder's tokens that are special by any of its files are not shown") {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer_json("gpt2"));
  const TokenId word = tokenizer_json("gpt2").at("model").at("vocab").at("in");
  CHECK(folder.load()->decode({word}, true) == "in");
  folder.write("tokenizer_config.json", {{"eos_token", {{"content", "in"}}}});
  Json without_merges = tokenizer_json("gpt2");
  without_merges["model"]["merges"] = Json::array();
  folder.write("tokenizer.json", without_merges);
  CHECK(folder.load()->decode({word}, true).empty());
  CHECK(folder.load()->special_token("in") == word);
}

TEST_CASE("tokenizer.json decides, unless only SentencePiece can do what it asks for") {
  const Folder folder;
  folder.copy_from_bundled("tokenizer.model");
  const Ids of_model = folder.load()->encode("The  cat \uFB01nds");

  folder.copy_from_bundled("tokenizer.json");  // made from it, with its table of characters
  CHECK(folder.load()->encode("The  cat \uFB01nds") == of_model);
  folder.write("tokenizer.json", tokenizer_json("gpt2"));
  CHECK(folder.load()->decode(folder.load()->encode("  \uFB01"), true) == "  \uFB01");
  CHECK(folder.load()->vocab_size() == 500);
}

TEST_CASE("A tokenizer.json that is Unigram needs the tokenizer.model it was made from") {
  Json unigram = tokenizer_json("llama2");
  unigram["model"] = {{"type", "Unigram"}, {"vocab", Json::array()}};
  unigram["added_tokens"] = Json::array({{{"id", 1}, {"content", "<s>"}, {"special", true}}});
  const Folder folder;
  folder.write("tokenizer.json", unigram);
  CHECK_THAT(folder.refusal(), Contains("tokenizer.json: model: 'type': 'Unigram'"));
  folder.copy_from_bundled("tokenizer.model");
  CHECK(folder.load()->special_token("<s>") == 1);
  unigram["added_tokens"][0]["id"] = 77;
  folder.write("tokenizer.json", unigram);
  CHECK_THAT(folder.refusal(), Contains("\"<s>\" (id 77) is none of tokenizer.model"));
}

TEST_CASE("A tokenizer.model alone: what tokenizer_config.json may say") {
  const Folder folder;
  folder.copy_from_bundled("tokenizer.model");
  CHECK(folder.load()->bos() == 1);
  folder.write("tokenizer_config.json", {{"add_bos_token", false}});
  CHECK(!folder.load()->bos());
  const auto refused = [&](const Json& config) {
    folder.write("tokenizer_config.json", config);
    return folder.refusal();
  };
  CHECK_THAT(refused({{"add_eos_token", true}}), Contains("add_eos_token"));
  CHECK_THAT(refused({{"legacy", false}}), Contains("legacy"));
  CHECK_THAT(refused({{"add_prefix_space", false}}), Contains("add_prefix_space"));
  const auto added = [](const char* id, const char* content) {
    return Json{{"added_tokens_decoder", {{id, {{"content", content}, {"special", true}}}}}};
  };
  CHECK_THAT(refused(added("99999", "<|image|>")),
             Contains("tokenizer_config.json: added token \"<|image|>\" (id 99999)"));
  CHECK(refused(added("1", "<s>")).empty());
}

TEST_CASE("A folder whose tokenizer is not the model's is refused in one line") {
  const Folder folder;
  CHECK_THAT(folder.refusal(), Contains("neither tokenizer.json nor tokenizer.model"));
  const Json json = tokenizer_json("qwen2");
  folder.write("tokenizer.json", json);
  folder.write("config.json", {{"model_type", "qwen2"}, {"vocab_size", 300}});
  CHECK_THAT(folder.refusal(), Contains("has token 300") && Contains("vocab_size is 300"));
  CHECK(folder.refusal().find('\n') == std::string::npos);
  folder.write("config.json", {{"model_type", "qwen2"}, {"vocab_size", 502}});
  CHECK(folder.refusal().empty());
  // A padding token behind the model's rows harms nobody: no text becomes it.
  Json padded = json;
  padded["added_tokens"].push_back({{"id", 502}, {"content", "<pad>"}, {"special", true}});
  folder.write("tokenizer.json", padded);
  CHECK(folder.refusal().empty());
  padded["added_tokens"].back()["special"] = false;
  folder.write("tokenizer.json", padded);
  CHECK_THAT(folder.refusal(), Contains("has token 502 \"<pad>\""));
}

TEST_CASE("A folder whose tokenizer has tokens for less than half of the model is refused") {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer_json("qwen2"));  // 502 tokens
  const auto refused = [&](const Json& config) {
    folder.write("config.json", config);
    return folder.refusal();
  };
  CHECK(refused({{"vocab_size", 1005}}).empty());
  CHECK_THAT(refused({{"vocab_size", 1006}}),
             Contains("tokenizer.json: expected the tokenizer of a model whose vocab_size is 1006, "
                      "got one of 502 tokens"));
  // Where the key is absent, the model has as many as transformers gives it.
  CHECK_THAT(refused({{"model_type", "llama"}}), Contains("vocab_size is 32000, got one of 502"));
  CHECK_THAT(refused({{"architectures", {"Qwen3ForCausalLM"}}}), Contains("is 151936, got one of"));
  CHECK(refused(Json::object()).empty());
  std::filesystem::remove(folder.path() / "tokenizer.json");
  folder.copy_from_bundled("tokenizer.model");
  CHECK_THAT(refused({{"vocab_size", 32000}}),
             Contains("tokenizer.model: expected the tokenizer of a model") && Contains("of 4096"));
}

TEST_CASE("A folder none of whose end tokens is one of the tokenizer's is refused") {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer_json("qwen2"));
  const auto refused = [&](const Json& config, const Json& generation_config) {
    folder.write("config.json", config);
    folder.write("generation_config.json", generation_config);
    return folder.refusal();
  };
  const Json padded = {{"vocab_size", 600}, {"eos_token_id", 550}};
  CHECK_THAT(refused(padded, Json::object()),
             Contains("/config.json: 'eos_token_id': expected a token of ") &&
                 Contains("/tokenizer.json, which has 502, got 550"));
  CHECK_THAT(refused({{"vocab_size", 600}}, {{"eos_token_id", {502, 599}}}),
             Contains("/generation_config.json: 'eos_token_id': expected") && Contains("got 502"));
  CHECK(refused(padded, {{"eos_token_id", {599, 501}}}).empty());
  CHECK(refused({{"vocab_size", 600}, {"eos_token_id", nullptr}}, Json::object()).empty());
  // Tokens that only transformers' slow tokenizers read.
  folder.write("added_tokens.json", {{"<|im_end|>", 550}});
  CHECK(refused(padded, Json::object()).empty());
}

TEST_CASE("tokenizer_config.json is refused where it would change ids in other ways") {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer_json("qwen2"));
  const auto refused = [&](const Json& config) {
    folder.write("tokenizer_config.json", config);
    return folder.refusal();
  };
  CHECK_THAT(refused({{"fix_mistral_regex", true}}), Contains("fix_mistral_regex"));
  CHECK_THAT(refused({{"auto_map", {{"AutoTokenizer", {"a.B", "a.C"}}}}}), Contains("auto_map"));
  CHECK_THAT(refused({{"legacy", 1}}), Contains("'legacy'"));
  const auto decoder = [](const char* id, const Json& token) {
    return Json{{"added_tokens_decoder", {{id, token}}}};
  };
  CHECK_THAT(refused(decoder("x", {{"content", "<a>"}})), Contains("\"x\" is no token id"));
  CHECK_THAT(refused(decoder("7", {{"content", ""}})), Contains("added_tokens_decoder.7.content"));
  CHECK_THAT(refused(decoder("7", {{"content", "<a>"}, {"weight", 1}})), Contains("weight"));
  CHECK_THAT(refused(decoder("900", {{"content", "<think>"}})),
             Contains("\"<think>\" has id 900, in tokenizer.json it is 500"));
  CHECK_THAT(refused(decoder("900", {{"content", "<a>"}})), Contains("it is 502"));
  folder.write("tokenizer.json", Json::array());
  CHECK_THAT(folder.refusal(), Contains("tokenizer.json"));
}

TEST_CASE("Ids behind the vocabulary are special tokens without a name") {
  Folder folder;
  folder.write("tokenizer.json", tokenizer_json("qwen2"));
  const auto json = folder.load();
  const auto model = load_tokenizer(QUIRE_BUNDLED_MODEL, 1);
  for (const Tokenizer* tokenizer : {json.get(), model.get()}) {
    const TokenId behind = tokenizer->vocab_size() + 5;
    CHECK(tokenizer->is_special(behind));
    CHECK(tokenizer->piece_name(behind).empty());
    CHECK(tokenizer->decode({behind, behind}, true).empty());
  }
}

}  // namespace quire
