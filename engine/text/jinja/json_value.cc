#include "engine/text/jinja/json_value.h"

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace quire::jinja {
namespace {

using Json = nlohmann::json;

/// Builds values as the parser comes by. Json itself would sort the members, and its ordered kind
/// takes time with the square of their number.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Origin origin) : origin_(origin) {}

  bool null() override { return put(None()); }
  bool boolean(bool value) override { return put(Value::of_bool(value)); }
  bool number_integer(int64_t number) override { return put(Value::of_int(number)); }
  bool number_unsigned(uint64_t number) override {
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      throw Error("the whole number " + std::to_string(number) + " is beyond 64 bits");
    }
    return put(Value::of_int(static_cast<int64_t>(number)));
  }
  bool number_float(double number, const std::string&) override {
    return put(Value::of_float(number));
  }
  bool string(std::string& text) override { return put(marked(std::move(text))); }
  bool binary(Json::binary_t&) override { return false; }

  bool start_object(size_t) override { return open(std::make_shared<Dict>()); }
  bool key(std::string& name) override {
    open_.back().key = marked(std::move(name));
    return true;
  }
  bool end_object() override {
    DictPtr dict = std::move(open_.back().dict);
    open_.pop_back();
    return put(std::move(dict));
  }

  bool start_array(size_t) override { return open(nullptr); }
  bool end_array() override {
    Value list = Value::of_list(std::move(open_.back().items));
    open_.pop_back();
    return put(std::move(list));
  }

  bool parse_error(size_t, const std::string&, const Json::exception& error) override {
    std::string what = error.what();
    const size_t end = what.find("] ");  // of the parser's own bookkeeping
    if (end != std::string::npos) what.erase(0, end + 2);
    throw Error("malformed JSON: " + what);
  }

  Value take() { return std::move(result_); }

 private:
  /// A list or dict that is not closed yet.
  struct Open {
    std::shared_ptr<Dict> dict;  // null = a list
    Value key;
    std::vector<Value> items;
  };

  Value marked(std::string text) const {
    return origin_ == Origin::kModel ? MarkedText(std::move(text))
                                     : MarkedText::of_user(std::move(text));
  }

  bool open(std::shared_ptr<Dict> dict) {
    if (open_.size() == static_cast<size_t>(kMaxValueDepth)) {
      throw Error("lists and dicts are nested too deeply");
    }
    open_.push_back({std::move(dict), Value(), {}});
    return true;
  }

  bool put(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().dict != nullptr) {
      open_.back().dict->set(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  Origin origin_;
  std::vector<Open> open_;
  Value result_;
};

}  // namespace

Value value_of_json(std::string_view text, Origin origin) {
  Builder builder(origin);
  Json::sax_parse(text, &builder);
  return builder.take();
}

}  // namespace quire::jinja
