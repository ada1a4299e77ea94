#include "server/http/json_scan.h"

#include <catch2/catch.hpp>

namespace quire {

TEST_CASE("a member's text is found by its name, however it is written") {
  const auto [object, expected] = GENERATE(table<std::string, std::string>({
      {R"({"k":1})", "1"},
      {R"( { "j" : "k" , "k" : [ {"k":2} , "]" ] , "l" : 3 } )", R"([ {"k":2} , "]" ] )"},
      {R"({"k":1,"k":{"b":1,"a":2}})", R"({"b":1,"a":2})"},
      {R"({"\u006b":"a\"}","kk":1})", R"("a\"}")"},
      {R"({"j":{"k":1}})", ""},
      {R"({"j":["k",1],"K":2})", ""},
      {"{}", ""},
  }));
  CAPTURE(object);
  CHECK(member_text(object, "k") == expected);
}

TEST_CASE("the elements of a list are found") {
  using Texts = std::vector<std::string_view>;
  CHECK(element_texts("[]") == Texts{});
  CHECK(element_texts(" [ ] ") == Texts{});
  CHECK(element_texts(R"([1,"a,]\",",[2,{"x":[3]}],{}])") ==
        Texts{"1", R"("a,]\",")", R"([2,{"x":[3]}])", "{}"});
}

TEST_CASE("text that is no JSON leads nowhere") {
  for (const std::string text :
       {"", "{", "{\"k", "{\"k\"", "{\"k\":", "[", "[[", "[\"", "k", "[1,"}) {
    CAPTURE(text);
    CHECK(member_text(text, "k").size() <= text.size());
    CHECK(element_texts(text).size() <= text.size());
  }
}

}  // namespace quire
