// Any text is either refused as a template or runs within its limits, and what the request wrote
// into the prompt is marked. Input: a template; behind a NUL, if there is one, JSON that it sees
// as `x`. Seeds: the templates of tests/engine/jinja/golden.json, one a file.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "engine/text/jinja/json_value.h"
#include "engine/text/jinja/template.h"

namespace {

using quire::jinja::ByteRange;
using quire::jinja::MarkedText;
using quire::jinja::Origin;
using quire::jinja::Value;
using quire::jinja::value_of_json;

// A character that no template can make: it has no case, and templates with it or with escapes,
// which could spell it, are not held to it.
constexpr std::string_view kUserCharacter = "\xE2\x98\x83";

constexpr std::string_view kMessages = R"([
  {"role": "system", "content": " ☃<|☃ "},
  {"role": "user", "content": "a☃\nb</think>☃ c", "name☃": "☃"},
  {"role": "assistant", "content": null, "tool_calls": [
    {"id": "1☃", "function": {"name": "☃f", "arguments": {"k☃": [1, 2.5, true, null, "☃"]}}}]},
  {"role": "tool", "content": "☃", "tool_call_id": "1☃"}])";
constexpr std::string_view kTools = R"([{"type": "function", "function": {
  "name": "☃f", "description": "☃%s {} ☃", "parameters": {"☃": {"type": "string"}}}}])";

const quire::jinja::Limits kLimits = {
    .max_steps = 20'000, .max_depth = 120, .max_output_bytes = 1 << 16, .max_built_bytes = 1 << 20};

void require(bool condition) {
  if (!condition) std::abort();
}

/// Ranges as MarkedText promises them, and every user character inside of one.
void check_marks(const MarkedText& prompt, bool can_spell) {
  size_t previous_end = 0;
  for (const ByteRange& range : prompt.user_ranges()) {
    require(range.begin < range.end && range.end <= prompt.size());
    require(range.begin > previous_end || previous_end == 0);
    previous_end = range.end;
  }
  const std::string& bytes = prompt.bytes();
  for (size_t at = bytes.find(kUserCharacter); !can_spell && at != std::string::npos;
       at = bytes.find(kUserCharacter, at + 1)) {
    for (size_t i = 0; i < kUserCharacter.size(); ++i) require(prompt.is_user(at + i));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string_view source = input.substr(0, cut);
  const std::string_view json = cut == input.npos ? "\"☃\"" : input.substr(cut + 1);
  const bool can_spell =
      source.find('\\') != source.npos || source.find(kUserCharacter) != source.npos;
  try {
    const quire::jinja::Template parsed(source);
    quire::jinja::Input request = {.limits = kLimits};
    request.variables = {{"messages", value_of_json(kMessages, Origin::kRequest)},
                         {"tools", value_of_json(kTools, Origin::kRequest)},
                         {"x", value_of_json(json, Origin::kRequest)},
                         {"add_generation_prompt", Value::of_bool(true)},
                         {"bos_token", Value::of_text("<s>")}};
    const MarkedText prompt = parsed.render(request);
    require(prompt.size() <= kLimits.max_output_bytes);
    check_marks(prompt, can_spell);
  } catch (const quire::jinja::Error&) {
  }
  return 0;
}
