#include "server/auth.h"

#include <catch2/catch.hpp>
#include <string>

namespace quire {
namespace {

const Authenticator kTwoKeys({"sk-alpha", "sk-beta"});

TEST_CASE("without keys everybody is let in under one name") {
  const Authenticator open({});
  CHECK(open.is_open());
  CHECK(open.identify("") == "anonymous");
  CHECK(open.identify("sk-any") == "anonymous");
  CHECK(open.identify_bearer("") == "anonymous");
  CHECK(open.identify_bearer("Basic dTpw") == "anonymous");
}

TEST_CASE("each key has a name of its own that does not reveal it") {
  CHECK_FALSE(kTwoKeys.is_open());
  const auto alpha = kTwoKeys.identify("sk-alpha");
  const auto beta = kTwoKeys.identify("sk-beta");
  REQUIRE(alpha);
  REQUIRE(beta);
  CHECK(*alpha != *beta);
  CHECK(*alpha != "anonymous");
  CHECK(alpha->find("alpha") == std::string::npos);
  CHECK(kTwoKeys.identify("sk-alpha") == alpha);
  // The name depends on nothing but the key, so a restart or another order keeps the cache apart
  // in the same way.
  CHECK(Authenticator({"sk-beta", "sk-alpha"}).identify("sk-alpha") == alpha);
}

TEST_CASE("what is nearly a key is no key") {
  for (const std::string wrong :
       {"", " ", "sk-alph", "sk-alphaa", "k-alpha", "sk-Alpha", "SK-ALPHA", "sk-alpha ",
        " sk-alpha", "sk-alpha\nsk-beta", "sk-alphask-beta", "sk-gamma"}) {
    CAPTURE(wrong);
    CHECK_FALSE(kTwoKeys.identify(wrong));
  }
  CHECK_FALSE(kTwoKeys.identify(std::string("sk-alpha\0", 9)));
}

TEST_CASE("the header is the word Bearer, one blank and the key") {
  const auto alpha = kTwoKeys.identify("sk-alpha");
  for (const std::string good : {"Bearer sk-alpha", "bearer sk-alpha", "BEARER sk-alpha"}) {
    CAPTURE(good);
    CHECK(kTwoKeys.identify_bearer(good) == alpha);
  }
  for (const std::string bad :
       {"", "sk-alpha", "Bearer", "Bearer ", "Bearersk-alpha", "Bearer: sk-alpha", "Basic sk-alpha",
        "Token sk-alpha", "Bearer sk-alph", "Bearer sk-alpha,sk-beta", "Bearer Bearer sk-alpha",
        " Bearer sk-alpha", "Bearer\tsk-alpha"}) {
    CAPTURE(bad);
    CHECK_FALSE(kTwoKeys.identify_bearer(bad));
  }
}

}  // namespace
}  // namespace quire
