#include "engine/text/chat_template.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/text/prompt_encoder.h"
#include "engine/text/tokenizer.h"
#include "models/model_config.h"

namespace quire {
namespace {

using Json = nlohmann::json;

const std::filesystem::path kModelDir = QUIRE_BUNDLED_MODEL;

const std::string kChatMl =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

using Files = std::vector<std::pair<std::string, std::string>>;  // name, text

/// A model folder with files of text alone.
class TextFolder {
 public:
  explicit TextFolder(const Files& files)
      : path_(std::filesystem::temp_directory_path() /
              ("quire_chat_template_" + std::to_string(reinterpret_cast<uintptr_t>(this)))) {
    std::filesystem::create_directories(path_ / "additional_chat_templates");
    for (const auto& [name, text] : files) std::ofstream(path_ / name) << text;
  }
  TextFolder(const TextFolder&) = delete;
  TextFolder& operator=(const TextFolder&) = delete;
  ~TextFolder() { std::filesystem::remove_all(path_); }

  std::unique_ptr<ChatTemplate> load() const { return load_chat_template(path_); }

 private:
  std::filesystem::path path_;
};

std::unique_ptr<ChatTemplate> template_of(const std::string& text) {
  return TextFolder(Files{{"tokenizer_config.json", Json{{"chat_template", text}}.dump()}}).load();
}

std::string load_error(const Files& files) {
  try {
    TextFolder(files).load();
  } catch (const LoadError& error) {
    return error.what();
  }
  return "loaded";
}

/// The prompt with what the request wrote in ⟦ ⟧; param and words of a refusal.
std::string shown(const Result<jinja::MarkedText>& prompt) {
  if (!prompt.ok())
    return "refused (" + prompt.status().param() + "): " + prompt.status().message();
  const std::string& bytes = prompt.value().bytes();
  std::string all;
  size_t pos = 0;
  for (const jinja::ByteRange& range : prompt.value().user_ranges()) {
    all += bytes.substr(pos, range.begin - pos) + "⟦" +
           bytes.substr(range.begin, range.end - range.begin) + "⟧";
    pos = range.end;
  }
  return all + bytes.substr(pos);
}

const std::vector<ChatMessage> kQuestion = {{"system", "Doc."}, {"user", "Q?"}};
const std::vector<ChatMessage> kDialogue = {
    {"system", "Doc."}, {"user", "Q?"}, {"assistant", "A."}, {"user", "R?"}};
const std::vector<ChatMessage> kBegun = {{"user", "Q?"}, {"assistant", "The "}};

const ChatTemplateOptions kNoPrompt = {.add_generation_prompt = false};
const ChatTemplateOptions kContinue = {.add_generation_prompt = false,
                                       .continue_final_message = true};
const ChatTemplateOptions kTools = {.tools_json =
                                        R"([{"type":"function","function":{"name":"b","a":1}}])"};

}  // namespace

TEST_CASE("Chat template of the bundled model") {
  const auto chat = load_chat_template(kModelDir);
  const std::string end = " That is all there is to read here.";
  CHECK(shown(chat->render(kQuestion, {})) == "<s>⟦Doc.⟧" + end + "<|user|>⟦Q?⟧<|assistant|>");
  CHECK(shown(chat->render(kDialogue, kNoPrompt)) ==
        "<s>⟦Doc.⟧" + end + "<|user|>⟦Q?⟧<|assistant|>⟦A.⟧<|end|><|user|>⟦R?⟧");
  CHECK(shown(chat->render(kBegun, kContinue)) == "<s><|user|>⟦Q?⟧<|assistant|>⟦The ⟧");
  CHECK(shown(chat->render({{"developer", "D"}, {"user", ""}}, {})) ==
        "<s>⟦D⟧" + end + "<|user|><|assistant|>");
}

TEST_CASE("Conversations that a template has no place for are refused in its words") {
  const auto chat = load_chat_template(kModelDir);
  CHECK(shown(chat->render({}, {})) == "refused (messages): messages is empty");
  CHECK_THAT(
      shown(chat->render({{"user", "Q?"}, {"tool", "42"}}, {})),
      Catch::StartsWith("refused (messages): the model's chat template cannot render this") &&
          Catch::EndsWith("no place for the role tool"));
  CHECK_THAT(shown(chat->render(kQuestion, kTools)), Catch::StartsWith("refused (tools)"));
  const std::string calls = R"({"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]})";
  CHECK_THAT(shown(chat->render({{"assistant", "", calls}}, {})),
             Catch::StartsWith("refused (messages[0].tool_calls)"));
  const std::string refused = "refused (continue_final_message)";
  CHECK_THAT(shown(chat->render(kQuestion, kContinue)), Catch::StartsWith(refused));
  CHECK_THAT(shown(chat->render(kBegun, {.continue_final_message = true})),
             Catch::StartsWith(refused));
  const auto shouting = template_of("{{ raise_exception('never: ' + messages[0].content) }}");
  CHECK_THAT(shown(shouting->render(kQuestion, {})),
             Catch::EndsWith("line 1, column 19: never: Doc."));
  const auto flood = shown(shouting->render({{"user", std::string(1 << 20, 'x')}}, {}));
  CHECK(flood.size() < 2000);
}

TEST_CASE("The last message stays open where a template trims it, too") {
  CHECK(shown(template_of(kChatMl)->render(kBegun, kContinue)) ==
        "<|im_start|>user\n⟦Q?⟧<|im_end|>\n<|im_start|>assistant\n⟦The ⟧");
  const auto trimming = template_of(
      "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}");
  CHECK(shown(trimming->render(kBegun, kContinue)) == "<user>⟦Q?⟧</user><assistant>⟦The⟧");
  const auto forgetful = template_of("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}");
  CHECK_THAT(shown(forgetful->render(kBegun, kContinue)),
             Catch::StartsWith("refused (continue_final_message)"));
}

TEST_CASE("A template sees what transformers shows it") {
  const auto chat = template_of(
      "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ bos_token }}"
      "{{ eos_token is defined }}{{ thinking | default('?') }}");
  CHECK(shown(chat->render(kQuestion, {})) == "TrueTrueTrueFalse?");
  const TextFolder folder(
      Files{{"tokenizer_config.json", R"({"bos_token": {"content": "<b>"}, "eos_token": null,
                                     "chat_template": "{{ bos_token }}{{ eos_token }}"})"},
            {"special_tokens_map.json", R"({"bos_token": "<no>", "eos_token": "</b>"})"}});
  CHECK(shown(folder.load()->render(kQuestion, {})) == "<b></b>");
}

TEST_CASE("chat_template_kwargs are names of the template, and never a control token's") {
  const auto chat = template_of("{{ bos_token }}{{ thinking }}|{{ effort }}");
  CHECK(shown(chat->render(kQuestion, {.kwargs_json = R"({"thinking":false,"effort":"<b>"})"})) ==
        "False|⟦<b>⟧");
  const TextFolder folder(Files{
      {"tokenizer_config.json", R"({"bos_token": "<b>", "chat_template": "{{ bos_token }}"})"}});
  CHECK(shown(folder.load()->render(kQuestion, {.kwargs_json = R"({"bos_token":"<c>"})"})) ==
        "<b>");
  std::string many = R"({"x":0)";
  for (int i = 0; i < 100; ++i) many += ",\"x" + std::to_string(i) + "\":0";
  for (const std::string& bad : {std::string(R"({"messages":[]})"), std::string(R"({"tools":1})"),
                                 std::string("[]"), std::string("{"), many + "}"}) {
    CAPTURE(bad);
    CHECK_THAT(shown(chat->render(kQuestion, {.kwargs_json = bad})),
               Catch::StartsWith("refused (chat_template_kwargs)"));
  }
}

TEST_CASE("Tools and calls reach the template in their own order, arguments as objects") {
  const auto chat = template_of(
      "{% for t in tools %}{{ t.function | tojson }}{% endfor %}{% for m in messages %}"
      "{% for c in m.tool_calls or [] %}[{{ c.function.name }}: {{ c.function.arguments.z }} "
      "{{ c.function.arguments | tojson }}]{% endfor %}"
      "{{ m.content is none }}{{ m.tool_call_id }}{% endfor %}");
  const std::string calls =
      R"({"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"z\":1,\"a\":[\"<s>\"]}"}}]})";
  CHECK(shown(chat->render({{"assistant", "", calls}, {"tool", "ok", R"({"tool_call_id":"1"})"}},
                           kTools)) ==
        "{\"⟦name⟧\": \"⟦b⟧\", \"⟦a⟧\": 1}[⟦f⟧: 1 {\"⟦z⟧\": 1, \"⟦a⟧\": [\"⟦<s>⟧\"]}]True"
        "False⟦1⟧");
  const std::string bad_calls =
      R"({"tool_calls":[{"function":{"arguments":"{}"}},{"function":{"arguments":"{z"}}]})";
  CHECK_THAT(shown(chat->render({{"assistant", "", bad_calls}}, {})),
             Catch::StartsWith("refused (messages[0].tool_calls[1].function.arguments)"));
  CHECK_THAT(shown(chat->render(kQuestion, {.tools_json = "{}"})),
             Catch::StartsWith("refused (tools)"));
}

TEST_CASE("A folder's template is the one that transformers takes") {
  const std::string config = Json{{"chat_template",
                                   {{{"name", "default"}, {"template", "config"}},
                                    {{"name", "tool_use"}, {"template", "tools of config"}},
                                    {{"name", "rag"}, {"template", "rag"}}}}}
                                 .dump();
  const TextFolder named(Files{{"tokenizer_config.json", config}});
  CHECK(shown(named.load()->render(kQuestion, {})) == "config");
  CHECK(shown(named.load()->render(kQuestion, kTools)) == "tools of config");

  const TextFolder with_file(
      Files{{"tokenizer_config.json", config}, {"chat_template.jinja", "file"}});
  CHECK(shown(with_file.load()->render(kQuestion, {})) == "file");
  const TextFolder with_more(Files{{"tokenizer_config.json", config},
                                   {"chat_template.jinja", "file"},
                                   {"additional_chat_templates/tool_use.jinja", "tools of files"},
                                   {"additional_chat_templates/notes.txt", "{{"}});
  CHECK(shown(with_more.load()->render(kQuestion, {})) == "file");
  CHECK(shown(with_more.load()->render(kQuestion, kTools)) == "tools of files");
}

TEST_CASE("A model without a chat template loads and refuses chats") {
  for (const Files& files : {Files(), Files({{"tokenizer_config.json", "{}"}})}) {
    CHECK_THAT(shown(TextFolder(files).load()->render(kQuestion, {})),
               Catch::StartsWith("refused (messages): the model has no chat template"));
  }
}

TEST_CASE("A bad template is refused at load, naming file, line and construct") {
  const auto error_of = [](const Json& chat_template) {
    return load_error({{"tokenizer_config.json", Json{{"chat_template", chat_template}}.dump()}});
  };
  CHECK_THAT(error_of("{% for x in y %}\n{{ x | shout }}"),
             Catch::EndsWith("tokenizer_config.json: chat_template: line 2, column 8: no filter "
                             "named 'shout'"));
  CHECK_THAT(error_of("{% include 'x' %}"),
             Catch::Contains("line 1") && Catch::Contains("include"));
  CHECK_THAT(error_of(3), Catch::Contains("'chat_template': expected a string or a list"));
  CHECK_THAT(error_of({{{"name", "default"}}}), Catch::Contains("'chat_template[0].template'"));
  CHECK_THAT(error_of({{{"name", "a"}, {"template", ""}}, {{"name", "a"}, {"template", ""}}}),
             Catch::Contains("a second chat template named 'a'"));
  CHECK_THAT(load_error({{"tokenizer_config.json", "{"}}),
             Catch::Contains("tokenizer_config.json"));
  CHECK_THAT(load_error({{"tokenizer_config.json", R"({"bos_token": 3})"}}),
             Catch::Contains("'bos_token'"));
  CHECK_THAT(load_error({{"chat_template.jinja", "{{ 'a"}}),
             Catch::Contains("chat_template.jinja: line 1, column 4"));
  CHECK_THAT(load_error({{"additional_chat_templates/tool_use.jinja", "{{"}}),
             Catch::Contains("tool_use.jinja: line 1"));
}

TEST_CASE("A conversation becomes the tokens that Hugging Face transformers makes of it") {
  std::ifstream file(kModelDir / "hf_logits.json");
  const Json chat = Json::parse(file).at("chat");
  std::vector<ChatMessage> messages;
  for (const auto& message : chat.at("messages")) {
    messages.push_back({message.at("role"), message.at("content")});
  }
  const auto tokenizer = load_tokenizer(kModelDir, 1);
  const auto prompt = load_chat_template(kModelDir)->render(messages, {});
  REQUIRE(prompt.ok());
  CHECK(PromptEncoder(*tokenizer).encode(prompt.value()) ==
        chat.at("tokens").get<std::vector<TokenId>>());
}

}  // namespace quire
