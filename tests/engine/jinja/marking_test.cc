#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "engine/text/jinja/template.h"
#include "tests/engine/jinja/variables.h"

namespace quire::jinja {
namespace {

using Json = nlohmann::ordered_json;

/// The output with what came from the request in ⟦ ⟧.
std::string shown(std::string_view source, const Json& request) {
  std::vector<Variable> variables = variables_of(request, Origin::kRequest);
  variables.push_back({"bos_token", Value::of_text("<s>")});
  const MarkedText text = Template(source).render({.variables = std::move(variables)});
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
                       {"list", {"p", "q"}},
                       {"f", "{:*>3}-"},
                       {"f2", "*<3"},
                       {"p", "%05d"}};

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
      {"{% macro m() %}<{{ caller(x) }}>{% endmacro %}{% call(a) m() %}[{{ a }}{{ list[0] }}]"
       "{% endcall %}",
       "<[⟦a<s>bp⟧]>"},
      {"{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(t=1, **d) }}",
       "{'t': 1, '⟦k<s>⟧': '⟦v\"<s>⟧'}"},
      {"{{ dict(**d) | list | first }}{{ dict(x=1) | list | first }}", "⟦k<s>⟧x"},
      {"{% for i in [list] recursive %}{{ '-' if i is string else loop(i) }}{{ i | first }}"
       "{% endfor %}",
       "-⟦p⟧-⟦qp⟧"},
      {"{% with y = x + '!' %}{{ y }}{% endwith %}{{ list | map('upper') | join('-') }}",
       "⟦a<s>b⟧!⟦P⟧-⟦Q⟧"},
      {"{{ ('[' + x + '] .') | truncate(6, false, '<s>', 0) }}", "[⟦a<⟧<s>"},
      {"{{ '123456' | truncate(5, true, list[0], 0) }}", "1234⟦p⟧"},
      {"{{ x | e }}{{ '<' | e }}", "⟦a&lt;s&gt;b⟧&lt;"},
      {"{{ {'k': x, 'l': '<'} | xmlattr }}", " k=\"⟦a&lt;s&gt;b⟧\" l=\"&lt;\""},
      {"{{ {x[0]: 1} | xmlattr }}", " ⟦a⟧=\"1\""},
      {"{{ x | center(8) }}|", " ⟦a<s>b⟧  |"},
      {"{{ list | batch(1, '-') | map('first') | join }}{{ list | max }}{{ list | min }}",
       "⟦pqqp⟧"},
      {"{{ (list | slice(3, x) | list)[2] | first }}", "⟦a<s>b⟧"},
      {"{% for g in messages | groupby('role') %}{{ g.grouper }}:{{ g.list[0].role }}{% endfor %}",
       "⟦user⟧:⟦user⟧"},
      {"{{ messages | groupby('no', default='d') | map('first') | join }}", "d"},
      {"{{ (x | attr('upper'))() }}", "⟦A<S>B⟧"},
      {"{{ ('ß' + x).upper() }}{{ (x[0] + 'ß').upper() }}", "SS⟦A<S>BA⟧SS"},
      {"{{ ('[' + x + ']').rsplit('<', 1) }}", "['[⟦a⟧', '⟦s>b⟧]']"},
      {"{{ x.rsplit() }}{{ ('[' ~ x).partition('<') }}", "['⟦a<s>b⟧']('[⟦a⟧', '<', '⟦s>b⟧')"},
      {"{{ x.rpartition(list[0]) }}{{ 'apb'.partition(list[0]) }}",
       "('', '', '⟦a<s>b⟧')('a', '⟦p⟧', 'b')"},
      {"{{ x.removeprefix('a') }}{{ ('<' + x).removesuffix('b') }}", "⟦<s>b⟧<⟦a<s>⟧"},
      {"{{ 'a'.ljust(3, list[0]) }}|{{ list[0].zfill(3) }}", "a⟦pp⟧|00⟦p⟧"},
      {"{{ ('[' ~ x ~ '\r\n' ~ x) | indent(2) }}", "[⟦a<s>b⟧\n  ⟦a<s>b⟧"},
      {"{{ ('-\n' ~ x).splitlines(true) }}", "['-\\n', '⟦a<s>b⟧']"},
      {"{{ '%8s|%-7s|%.2s|%r' % (x, x, x, x) }}", "   ⟦a<s>b⟧|⟦a<s>b⟧  |⟦a<⟧|'⟦a<s>b⟧'"},
      {"{{ '{:*>7}|{!r}|{:{}}'.format(x, x, x, 7) }}", "**⟦a<s>b⟧|'⟦a<s>b⟧'|⟦a<s>b⟧  "},
      {"{{ '%(k)s-' % {'k': x} }}{{ '{0.y}{0[y]}'.format({'y': x}) }}", "⟦a<s>b⟧-⟦a<s>ba<s>b⟧"},
      {"{{ f.format(5) }}{{ p % 5 }}{{ '{:{}}'.format('q', f2) }}", "⟦**5-00005⟧q⟦**⟧"},
      {"{{ '%s' % x }}{{ '{}'.format(x) }}", "⟦a<s>ba<s>b⟧"},
      {"{{ x.format() }}{{ (x ~ 'z') | list | first }}", "⟦a<s>ba⟧"},
      {"{{ strftime_now(x) }}", "⟦a<s>b⟧"},
  }));
  CHECK(shown(source, kMessage) == expected);
}

TEST_CASE("Of two names the later counts") {
  CHECK(shown("{{ bos_token }}", {{"bos_token", "<|system|>"}}) == "<s>");
}

TEST_CASE("JSON becomes values in its own order, bounded") {
  const auto printed = [](const std::string& json) {
    try {
      return Template("{{ x | tojson }}")
          .render({.variables = {{"x", value_of_json(json, Origin::kRequest)}}})
          .bytes();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  CHECK(printed(R"({"b":1,"a":[true,null,-2.5,"é"],"":{}})") ==
        R"({"b": 1, "a": [true, null, -2.5, "é"], "": {}})");
  CHECK(printed(R"({"a":1,"b":2,"a":3})") == R"({"a": 3, "b": 2})");
  CHECK_THAT(printed("[1,"), Catch::Contains("malformed JSON"));
  CHECK_THAT(printed(""), Catch::Contains("malformed JSON"));
  CHECK_THAT(printed("18446744073709551615"), Catch::Contains("beyond 64 bits"));
  CHECK_THAT(printed(std::string(100'000, '[')), Catch::Contains("nested too deeply"));
  // A million members take a moment, not the square of it.
  std::string many = "{";
  for (int i = 0; i < 1'000'000; ++i) many += "\"" + std::to_string(i) + "\":0,";
  const Value object = value_of_json(many + "\"z\":1}", Origin::kRequest);
  CHECK(object.as_dict().entries().size() == 1'000'001);
}

}  // namespace quire::jinja
