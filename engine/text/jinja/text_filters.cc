#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/filters.h"

namespace quire::jinja {
namespace {

Value indent_filter(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"width", "first", "blank"});
  MarkedText margin("    ");
  if (bound[0] != nullptr && bound[0]->is_text()) {
    margin = bound[0]->as_text();
  } else if (bound[0] != nullptr) {
    const int64_t width = std::max<int64_t>(whole(bound[0], 4), 0);
    runtime.budget.spend_bytes(static_cast<size_t>(width));
    margin = MarkedText(std::string(static_cast<size_t>(width), ' '));
  }
  if (object.is_undefined()) throw_undefined(object);
  if (!object.is_text()) throw Error("indent needs a string");
  return indent(runtime, object.as_text(), margin, bound[1] != nullptr && bound[1]->is_true(),
                bound[2] != nullptr && bound[2]->is_true());
}

/// The text, or as much of it as fits with `end` behind it: whole words, unless `killwords`.
Value truncate(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"length", "killwords", "end", "leeway"});
  const int64_t length = whole(bound[0], 255);
  const MarkedText end = bound[2] != nullptr ? text_of(runtime, *bound[2]) : MarkedText("...");
  const int64_t leeway = whole(bound[3], 5);
  const int64_t end_length = length_of(runtime, Value(end));
  if (length < end_length || leeway < 0) throw Error("truncate has no place for its end");
  if (object.is_undefined()) return object;
  if (!object.is_text()) throw Error("truncate needs a string");
  // The difference does not overflow, the sum may.
  if (length_of(runtime, object) - leeway <= length) return object;
  const MarkedText& text = object.as_text();
  runtime.budget.spend_bytes(text.size() + end.size());
  size_t size = byte_of_character(text.bytes(), static_cast<size_t>(length - end_length));
  if (!is_set(bound[1])) {
    const size_t space = std::string_view(text.bytes()).substr(0, size).rfind(' ');
    if (space != std::string_view::npos) size = space;
  }
  MarkedText cut = text.slice(0, size);
  cut.append(end);
  return cut;
}

Value center(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"width"});
  return padded(runtime, text_of(runtime, object), Side::kBoth, whole(bound[0], 80),
                MarkedText(" "));
}

Value wordcount(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  const MarkedText text = text_of(runtime, object);
  runtime.budget.spend_bytes(text.size());
  int64_t count = 0;
  bool is_inside = false;
  for (size_t pos = 0; pos < text.size();) {
    const Character character = character_at(text.bytes(), pos);
    const bool is_part = is_word_character(character.code);
    if (is_part && !is_inside) ++count;
    is_inside = is_part;
    pos += character.num_bytes;
  }
  return Value::of_int(count);
}

std::string_view entity_of(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '\'':
      return "&#39;";
    case '"':
      return "&#34;";
    default:
      return {};
  }
}

MarkedText escaped(Runtime& runtime, const MarkedText& text) {
  MarkedText out;
  size_t done = 0;
  runtime.budget.spend_bytes(text.size());
  for (size_t pos = 0; pos < text.size(); ++pos) {
    const std::string_view entity = entity_of(text.bytes()[pos]);
    if (entity.empty()) continue;
    runtime.budget.spend_bytes(entity.size());
    out.append(text.slice(done, pos));
    out.append_made_from(entity, text, {pos, pos + 1});
    done = pos + 1;
  }
  out.append(text.slice(done, text.size()));
  return out;
}

/// Gives plain text, where jinja2 knows later on what is escaped already and escapes the rest.
Value escape(Runtime& runtime, const Value& object, const Arguments& arguments) {
  arguments.bind({});
  return escaped(runtime, text_of(runtime, object));
}

/// name="value" of each member that has one.
Value xmlattr(Runtime& runtime, const Value& object, const Arguments& arguments) {
  const auto bound = arguments.bind({"autospace"});
  if (!object.is_dict()) throw Error("xmlattr needs a dict");
  MarkedText out;
  for (const auto& [name, value] : object.as_dict().entries()) {
    if (value.is_none() || value.is_undefined()) continue;
    if (!name.is_text()) throw Error("names of attributes are strings");
    for (size_t pos = 0; pos < name.bytes().size();) {
      const Character character = character_at(name.bytes(), pos);
      const bool is_refused = is_space(character.code) || character.code == '/' ||
                              character.code == '>' || character.code == '=';
      if (is_refused) throw Error("a character that cannot stand in the name of an attribute");
      pos += character.num_bytes;
    }
    const bool has_space = !out.empty() || bound[0] == nullptr || bound[0]->is_true();
    runtime.budget.spend_steps(1);
    runtime.budget.spend_bytes(4);
    if (has_space) out.append(" ");
    out.append(escaped(runtime, name.as_text()));
    out.append("=\"");
    out.append(escaped(runtime, text_of(runtime, value)));
    out.append("\"");
  }
  return out;
}

}  // namespace

const FilterTable& text_filters() {
  static const FilterTable kTable = {{"indent", indent_filter}, {"truncate", truncate},
                                     {"center", center},        {"wordcount", wordcount},
                                     {"escape", escape},        {"e", escape},
                                     {"forceescape", escape},   {"xmlattr", xmlattr}};
  return kTable;
}

}  // namespace quire::jinja
