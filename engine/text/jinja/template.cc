#include "engine/text/jinja/template.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/parser.h"

namespace quire::jinja {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxSourceBytes = 1 << 20;

bool is_known_role(const std::string& role) {
  constexpr std::string_view kRoles[] = {"system", "developer", "user",   "assistant",
                                         "tool",   "function",  "ipython"};
  return std::find(std::begin(kRoles), std::end(kRoles), role) != std::end(kRoles);
}

/// JSON as values of a template. `kModel` strings are trusted, `kRequest` ones marked.
class Importer {
 public:
  enum class Origin { kModel, kRequest };
  explicit Importer(Origin origin) : origin_(origin) {}

  Value import(const Json& json) {
    switch (json.type()) {
      case Json::value_t::boolean:
        return Value::of_bool(json.get<bool>());
      case Json::value_t::number_integer:
        return Value::of_int(json.get<int64_t>());
      case Json::value_t::number_unsigned:
        return whole(json.get<uint64_t>());
      case Json::value_t::number_float:
        return Value::of_float(json.get<double>());
      case Json::value_t::string:
        return text(json.get_ref<const std::string&>());
      case Json::value_t::array:
      case Json::value_t::object:
        return nested(json);
      default:
        return None();
    }
  }

  /// The messages of a request: what import() makes of them, but known roles are trusted.
  Value import_messages(const Json& messages) {
    if (!messages.is_array()) return import(messages);
    std::vector<Value> items;
    for (const Json& message : messages) {
      if (!message.is_object()) {
        items.push_back(import(message));
        continue;
      }
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, value] : message.items()) {
        const bool is_role = key == "role" && value.is_string() &&
                             is_known_role(value.get_ref<const std::string&>());
        dict->set(text(key),
                  is_role ? Value::of_text(value.get_ref<const std::string&>()) : import(value));
      }
      items.push_back(DictPtr(std::move(dict)));
    }
    return Value::of_list(std::move(items));
  }

 private:
  Value text(const std::string& bytes) const {
    return origin_ == Origin::kModel ? MarkedText(bytes) : MarkedText::of_user(bytes);
  }

  static Value whole(uint64_t number) {
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      throw Error("a whole number is beyond 64 bits");
    }
    return Value::of_int(static_cast<int64_t>(number));
  }

  Value nested(const Json& json) {
    if (++depth_ > kMaxValueDepth) throw Error("lists and dicts are nested too deeply");
    Value value;
    if (json.is_array()) {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(import(item));
      value = Value::of_list(std::move(items));
    } else {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.items()) dict->set(text(key), import(item));
      value = DictPtr(std::move(dict));
    }
    --depth_;
    return value;
  }

  Origin origin_;
  int32_t depth_ = 0;
};

}  // namespace

struct Template::Parsed {
  Body body;
};

Template::Template(std::string_view source, const Limits& limits) : limits_(limits) {
  if (source.size() > kMaxSourceBytes) throw Error("a template of more than 1 MiB");
  parsed_ = std::make_unique<const Parsed>(Parsed{parse_template(source)});
}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

MarkedText Template::render(const Input& input) const {
  Evaluator evaluator(limits_);
  evaluator.runtime().now = input.now;
  Importer of_request(Importer::Origin::kRequest);
  for (const auto& [name, value] : input.of_request.items()) {
    evaluator.define(
        name, name == "messages" ? of_request.import_messages(value) : of_request.import(value));
  }
  // Last, so that no request can take the place of a model's name.
  Importer of_model(Importer::Origin::kModel);
  for (const auto& [name, value] : input.of_model.items()) {
    evaluator.define(name, of_model.import(value));
  }
  return evaluator.run(parsed_->body);
}

}  // namespace quire::jinja
