// Where a model's folder keeps its chat templates.

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "engine/text/chat_template.h"
#include "models/strict_json.h"
#include "models/weights/find_gguf.h"
#include "models/weights/gguf.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{64} << 20;  // it may list the tokens of a vocabulary
constexpr int kMaxConfigDepth = 16;
constexpr size_t kMaxTemplateBytes = 1 << 20;
constexpr size_t kMaxTemplates = 64;
constexpr std::array<const char*, 7> kTokenNames = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

using Sources = std::map<std::string, ChatTemplateSources::Source>;

void add_template(const std::string& name, std::string text, const std::string& where,
                  Sources& templates) {
  if (templates.size() == kMaxTemplates) {
    throw LoadError(where + ": more than " + std::to_string(kMaxTemplates) + " chat templates");
  }
  if (!templates.emplace(name, ChatTemplateSources::Source{std::move(text), where}).second) {
    throw LoadError(where + ": a second chat template named '" + name + "'");
  }
}

/// Those in files of their own.
Sources read_template_files(const std::filesystem::path& model_dir) {
  Sources templates;
  const auto add_file = [&](const std::string& name, const std::filesystem::path& file) {
    add_template(name, read_text_file(file, kMaxTemplateBytes), file.string(), templates);
  };
  std::error_code error;
  const std::filesystem::path main_file = model_dir / "chat_template.jinja";
  if (std::filesystem::exists(main_file, error)) add_file("default", main_file);
  std::vector<std::filesystem::path> others;
  std::filesystem::directory_iterator entries(model_dir / "additional_chat_templates", error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    if (entries->path().extension() == ".jinja") others.push_back(entries->path());
  }
  std::sort(others.begin(), others.end());  // so that a complaint does not depend on the disk
  for (const std::filesystem::path& file : others) add_file(file.stem().string(), file);
  return templates;
}

/// "chat_template": a text, or a list of {"name": …, "template": …}.
Sources read_configured(const JsonFields& fields, const std::string& source_name) {
  Sources templates;
  const Json* configured = fields.find("chat_template");
  if (configured == nullptr) return templates;
  const std::string where = source_name + ": chat_template";
  if (configured->is_string()) {
    add_template("default", configured->get<std::string>(), where, templates);
    return templates;
  }
  if (!configured->is_array()) {
    fields.fail("chat_template", "expected a string or a list, got " + describe_json(*configured));
  }
  for (size_t i = 0; i < configured->size(); ++i) {
    const std::string path = "chat_template[" + std::to_string(i) + "].";
    const JsonFields entry((*configured)[i], source_name, path);
    const std::optional<std::string> name = entry.optional_string("name");
    std::optional<std::string> text = entry.optional_string("template");
    if (!name) entry.fail("name", "missing");
    if (!text) entry.fail("template", "missing");
    add_template(*name, std::move(*text), where + " '" + *name + "'", templates);
  }
  return templates;
}

/// Adds the tokens that the file names and that are not known yet; each is a text, or an object
/// that has it as its content.
void add_special_tokens(const JsonFields& fields, ChatTemplateSources& sources) {
  for (const std::string name : kTokenNames) {
    const auto is_known = [&](const auto& token) { return token.first == name; };
    if (std::ranges::any_of(sources.special_tokens, is_known)) continue;
    const Json* token = fields.find(name);
    if (token == nullptr || token->is_boolean()) continue;  // false: some files have no token so
    if (token->is_object()) {
      const auto content = token->find("content");
      token = content == token->end() ? nullptr : &*content;
    }
    if (token == nullptr || !token->is_string()) {
      fields.fail(name, "expected a string, or an object with one as its content");
    }
    sources.special_tokens.emplace_back(name, token->get<std::string>());
  }
}

/// Those that a GGUF file brings, and its control tokens, which it lists by id.
ChatTemplateSources read_gguf_templates(const std::filesystem::path& path) {
  const GgufFile file(path);
  const GgufMetadata& metadata = file.metadata();
  ChatTemplateSources sources;
  const auto add = [&](const std::string& name, const std::string& key) {
    add_template(name, std::string(metadata.text(key)), path.string() + ": " + key,
                 sources.templates);
  };
  const std::string key = "tokenizer.chat_template";
  if (metadata.has(key)) add("default", key);
  for (const std::string_view name : metadata.texts("tokenizer.chat_templates")) {
    if (name != "default") add(std::string(name), key + "." + std::string(name));
  }
  const std::vector<std::string_view> tokens = metadata.texts("tokenizer.ggml.tokens");
  for (const std::string name : {"bos_token", "eos_token"}) {
    const auto id = metadata.optional_integer("tokenizer.ggml." + name + "_id",
                                              {0, static_cast<int64_t>(tokens.size()) - 1});
    if (id) sources.special_tokens.emplace_back(name, tokens[static_cast<size_t>(*id)]);
  }
  return sources;
}

}  // namespace

ChatTemplateSources read_chat_templates(const std::filesystem::path& model_dir) {
  if (const auto gguf = find_gguf(model_dir)) return read_gguf_templates(*gguf);
  ChatTemplateSources sources;
  sources.templates = read_template_files(model_dir);
  for (const char* const name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::filesystem::path file = model_dir / name;
    std::error_code error;
    if (!std::filesystem::exists(file, error)) continue;
    const std::string source_name = file.string();
    const Json root =
        parse_json(read_text_file(file, kMaxConfigBytes), source_name, kMaxConfigDepth);
    const JsonFields fields(root, source_name);
    const bool is_config = name == std::string_view("tokenizer_config.json");
    if (is_config && sources.templates.empty()) {
      sources.templates = read_configured(fields, source_name);
    }
    add_special_tokens(fields, sources);
  }
  return sources;
}

std::unique_ptr<ChatTemplate> load_chat_template(const std::filesystem::path& model_dir) {
  return std::make_unique<ChatTemplate>(read_chat_templates(model_dir));
}

}  // namespace quire
