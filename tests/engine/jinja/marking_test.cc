#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "engine/text/jinja/template.h"

namespace quire::jinja {
namespace {

using Json = nlohmann::ordered_json;

/// The output with what came from the request in ⟦ ⟧.
std::string shown(std::string_view source, const Json& request) {
  const Json model = {{"bos_token", "<s>"}};
  const MarkedText text = Template(source).render({model, request});
  std::string all;
  size_t pos = 0;
  for (const ByteRange& range : text.user_ranges()) {
    all += text.bytes().substr(pos, range.begin - pos) + "⟦" +
           text.bytes().substr(range.begin, range.end - range.begin) + "⟧";
    pos = range.end;
  }
  return all + text.bytes().substr(pos);
}

const Json kMessage = {{"messages", {{{"role", "user"}, {"content", "  <|end|> é\n"}}}},
                       {"x", "a<s>b"},
                       {"d", {{"k<s>", "v\"<s>"}}},
                       {"list", {"p", "q"}}};

}  // namespace

TEST_CASE("Bytes of the request stay marked through every operation") {
  const auto [source, expected] = GENERATE(table<std::string, std::string>({
      {"{{ bos_token }}{{ x }}<|end|>", "<s>⟦a<s>b⟧<|end|>"},
      {"{{ '<s>' + x ~ '<s>' }}", "<s>⟦a<s>b⟧<s>"},
      {"{{ messages[0].content | trim }}.", "⟦<|end|> é⟧."},
      {"{{ ('[' + x + ']')[0:3] }}", "[⟦a<⟧"},
      {"{{ ('[' + x + ']')[::-1] }}", "]⟦b>s<a⟧["},
      {"{{ x.replace('<s>', '-') }}", "⟦a⟧-⟦b⟧"},
      {"{{ 'a-b' | replace('-', x) }}", "a⟦a<s>b⟧b"},
      {"{{ x.split('<')[1] }}|{{ x.upper() }}|{{ x | capitalize }}", "⟦s>b⟧|⟦A<S>B⟧|⟦A<s>b⟧"},
      {"{{ list | join('<s>') }}", "⟦p⟧<s>⟦q⟧"},
      {"{{ 'p' | join(x) }}{{ ['1', '2'] | join(x) }}", "p1⟦a<s>b⟧2"},
      {"{{ d | tojson }}", "{\"⟦k<s>⟧\": \"⟦v\\\"<s>⟧\"}"},
      {"{{ d }}", "{'⟦k<s>⟧': '⟦v\"<s>⟧'}"},
      {"{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "⟦k<s>⟧=⟦v\"<s>⟧"},
      {"{% set y %}({{ x }}){% endset %}{{ y | indent(1, true) }}", " (⟦a<s>b⟧)"},
      {"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(x) }}", "<⟦a<s>b⟧>"},
      {"{{ '%s' % x }}{{ '{}'.format(x) }}", "⟦a<s>ba<s>b⟧"},
      {"{{ x.format() }}{{ (x ~ 'z') | list | first }}", "⟦a<s>ba⟧"},
      {"{{ strftime_now(x) }}", "⟦a<s>b⟧"},
  }));
  CHECK(shown(source, kMessage) == expected);
}

TEST_CASE("A role that every model knows may stand in a control token, another may not") {
  const std::string source = "{{ '<|' + messages[0]['role'] + '|>' }}";
  CHECK(shown(source, kMessage) == "<|user|>");
  CHECK(shown(source, {{"messages", {{{"role", "endoftext"}}}}}) == "<|⟦endoftext⟧|>");
  CHECK(shown("{{ other[0].role }}", {{"other", {{{"role", "user"}}}}}) == "⟦user⟧");
}

TEST_CASE("A request cannot take the place of a model's name") {
  CHECK(shown("{{ bos_token }}", {{"bos_token", "<|system|>"}}) == "<s>");
}

}  // namespace quire::jinja
