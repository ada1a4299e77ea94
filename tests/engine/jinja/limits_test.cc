#include <catch2/catch.hpp>

#include "engine/text/jinja/template.h"

namespace quire::jinja {
namespace {

std::string refusal(const std::string& source) {
  const Limits limits = {
      .max_steps = 100'000, .max_depth = 120, .max_output_bytes = 1000, .max_built_bytes = 100'000};
  try {
    Template(source).render({.limits = limits});
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

std::string load_refusal(const std::string& source) {
  try {
    const Template parsed(source);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("Errors name line and column, in characters") {
  CHECK(refusal("a\n é{{ 1 + 'x' }}") ==
        "line 2, column 8: operator + cannot take 'int' and 'str'");
  CHECK(refusal("{% if x %}\n  {{ a.b }}{{ q.r }}\n{% endif %}{{ q.r }}") ==
        "line 3, column 17: 'q' is undefined");
  CHECK(refusal("\n{{ 'abc\n\n") == "line 2, column 4: a string is not closed");
}

TEST_CASE("A template that wants too much is told what") {
  const std::string loop =
      "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}";
  CHECK_THAT(refusal(loop), Catch::Contains("needs more than 100000 steps"));
  CHECK_THAT(refusal("{{ 'x' * 2000 }}"), Catch::Contains("prints more than 1000 bytes"));
  CHECK_THAT(refusal("{{ ('x' * 9000000000000) | length }}"), Catch::Contains("builds more than"));
  CHECK_THAT(refusal("{% set n = namespace(s='xx') %}{% for i in range(60) %}"
                     "{% set n.s = n.s + n.s %}{% endfor %}"),
             Catch::Contains("builds more than 100000 bytes"));
  CHECK_THAT(refusal("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
             Catch::Contains("nests more than 120 levels"));
  CHECK_THAT(refusal("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
             Catch::Contains("nests more than 120 levels"));
  CHECK_THAT(refusal("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}"
                     "{% call m() %}x{% endcall %}"),
             Catch::Contains("nests more than 120 levels"));
  CHECK_THAT(refusal("{% set n = namespace(l=[]) %}{% for i in range(300) %}"
                     "{% set n.l = [n.l] %}{% endfor %}"),
             Catch::Contains("nested too deeply"));
  CHECK_THAT(refusal("{{ range(200000) }}"), Catch::Contains("more than 100000 items"));
}

TEST_CASE("What unfolds into more than it takes in memory counts as what it unfolds into") {
  // Two lists of fifty levels, each of which has the one below twice.
  const std::string twins =
      "{% set n = namespace(a=('x',), b=('x',)) %}{% for i in range(50) %}"
      "{% set n.a = (n.a, n.a) %}{% set n.b = (n.b, n.b) %}{% endfor %}";
  for (const char* const use :
       {"n.a == n.b", "n.a != n.b", "n.a < n.b", "n.a in [n.b]", "n.a is eq(n.b)",
        "[n.a, n.b] | sort", "{'k': n.a} == {'k': n.b}"}) {
    CAPTURE(use);
    CHECK_THAT(refusal(twins + "{{ " + use + " }}"), Catch::Contains("more than 100000 steps"));
  }
  CHECK_THAT(refusal(twins + "{{ {n.a: 1} }}"), Catch::Contains("too large to be a key"));
  CHECK_THAT(refusal(twins + "{{ n.a in {} }}"), Catch::Contains("too large to be a key"));
}

TEST_CASE("Looking at long texts takes steps, and time that grows with their length only") {
  const std::string texts =
      "{% set a = 'x' * 40000 %}{% set b = 'x' * 20000 + 'y' %}{% set d = {a: 1} %}";
  for (const char* const use : {"a == a",
                                "a < a",
                                "b in a",
                                "a in d",
                                "d[a]",
                                "d.get(a)",
                                "a.find(b)",
                                "a.count(b)",
                                "a.startswith(a)",
                                "a | length",
                                "a[0]",
                                "{a: 1}",
                                "a.rfind(b)",
                                "a.rsplit(b)",
                                "a.rsplit('x')",
                                "a.rpartition(b)",
                                "a.removeprefix(b)",
                                "a.removesuffix(a)",
                                "a.find('y', 9)",
                                "a.splitlines()",
                                "a.isalpha()",
                                "a.islower()",
                                "a.ljust(90000)",
                                "a.zfill(90000)",
                                "[a].index(a)",
                                "[a].count(a)"}) {
    CAPTURE(use);
    CHECK_THAT(refusal(texts + "{% for i in range(3000) %}{% set c = " + use + " %}{% endfor %}"),
               Catch::Contains("needs more than") || Catch::Contains("builds more than"));
  }
}

TEST_CASE("Looking for one of many named arguments takes steps") {
  std::string parameters = "a0=0";
  for (int i = 1; i < 30; ++i) parameters += ", a" + std::to_string(i) + "=0";
  const std::string macro = "{% macro m(" + parameters + ") %}{{ kwargs | length }}{% endmacro %}";
  auto members = std::make_shared<Dict>();
  for (int i = 0; i < 30'000; ++i) members->set(Value::of_text("b" + std::to_string(i)), None());
  const auto refusal_of_many = [&](const std::string& source) {
    try {
      Template(source).render(
          {.variables = {{"x", DictPtr(members)}}, .limits = {.max_steps = 200'000}});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  CHECK(refusal_of_many("{% macro m() %}{{ kwargs | length }}{% endmacro %}{{ m(**x) }}") ==
        "none");
  CHECK_THAT(refusal_of_many(macro + "{{ m(**x) }}"), Catch::Contains("needs more than"));
  CHECK_THAT(refusal_of_many("{{ ('{b1}' * 30).format(**x) }}"),
             Catch::Contains("needs more than"));
}

TEST_CASE("Names are looked for among many at the cost of many") {
  std::string many;
  for (int i = 0; i < 4000; ++i) many += "{% set n" + std::to_string(i) + " = 1 %}";
  CHECK_THAT(refusal(many + "{% for i in range(300) %}{{ n9 }}{% endfor %}"),
             Catch::Contains("needs more than 100000 steps"));
  std::string attributes = "{% set ns = namespace() %}";
  for (int i = 0; i < 1001; ++i) attributes += "{% set ns.n" + std::to_string(i) + " = 1 %}";
  CHECK_THAT(refusal(attributes), Catch::Contains("more than 1000 attributes"));
}

TEST_CASE("Filters that make or look at much spend for it") {
  for (const char* const use : {"[] | slice(1000000000000)",
                                "[1] | batch(1000000000000, 0)",
                                "'x' | center(9000000)",
                                "'x' | center(9000000000000000000)",
                                "l | groupby(0)",
                                "l | min",
                                "l | max",
                                "l | sort(attribute='a,b,c,d,e,f,g')",
                                "l | batch(1)",
                                "l | slice(20000)",
                                "l | map('escape')",
                                "l | select('lower')",
                                "d | xmlattr",
                                "t | wordcount",
                                "t | truncate",
                                "t | escape",
                                "t is upper",
                                "'%90000s' % t",
                                "'{:90000}'.format(t)",
                                "'%s' % t",
                                "('{0.ns' + '.ns' * 9000 + '.x}').format(ns)",
                                "('%%' * 20000) % ()",
                                "[{'a': ns}] | map(attribute='a' + '.ns' * 9000)"}) {
    CAPTURE(use);
    CHECK_THAT(refusal("{% set l = ['x'] * 20000 %}{% set t = 'a ' * 20000 %}"
                       "{% set ns = namespace() %}{% set ns.ns = ns %}"
                       "{% set d = {'a': 'x' * 1000, 'b': 1} %}"
                       "{% for i in range(1000) %}{% set c = " +
                       std::string(use) + " %}{% endfor %}"),
               Catch::Contains("needs more than") || Catch::Contains("builds more than") ||
                   Catch::Contains("too long"));
  }
  CHECK_THAT(refusal("{{ [1] | batch(1000000000000, 0) }}"), Catch::Contains("needs more than"));
  CHECK_THAT(refusal("{{ 'x' | center(90000000000000) }}"), Catch::Contains("too long"));
}

TEST_CASE("Filters and tests that nobody knows are found before the template runs") {
  CHECK(load_refusal("{% if false %}\n{{ x | shout }}{% endif %}") ==
        "line 2, column 8: no filter named 'shout'");
  CHECK(load_refusal("{{ x is loud }}") == "line 1, column 9: no test named 'loud'");
  CHECK(load_refusal("{% filter shout %}{% endfilter %}") != "none");
}

TEST_CASE("Deep sources are refused, whatever nests in them") {
  for (const char* const part : {"(", "[", "{1:", "not ", "-", "1+", "x.", "f(", "1 if "}) {
    CAPTURE(part);
    CHECK(refusal("{{ " + repeated(part, 20000)) != "none");
  }
  CHECK(refusal(repeated("{% if x %}", 20000)) != "none");
  CHECK(refusal("{{ " + repeated("1+", 20000) + "1 }}") != "none");
}

TEST_CASE("What is no key in JSON is refused") {
  CHECK_THAT(refusal("{{ {1: 2, x: 3} | tojson }}"), Catch::Contains("keys of JSON"));
  CHECK_THAT(refusal("{{ {(1, 2): 3} | tojson }}"), Catch::Contains("keys of JSON"));
}

TEST_CASE("What refers to itself is freed and cannot be printed") {
  CHECK(refusal("{% set n = namespace() %}{% set n.n = n %}{% set n.l = [n] %}") == "none");
  CHECK_THAT(refusal("{% set n = namespace() %}{{ n }}"), Catch::Contains("cannot be printed"));
}

}  // namespace quire::jinja
