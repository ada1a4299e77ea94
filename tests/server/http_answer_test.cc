// What goes on the wire, and which route a request takes.

#include "server/http/http_answer.h"

#include <catch2/catch.hpp>
#include <string>

#include "server/http/routes.h"

namespace quire {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;

const WireContext kWire{.request_id = "r-1", .keep_alive = true, .is_http_1_0 = false};
const WireContext kOldWire{.request_id = "", .keep_alive = true, .is_http_1_0 = true};

TEST_CASE("a whole answer has its length, its request id and its own headers") {
  const HttpAnswer answer{.status = 429, .body = "{}", .headers = {{"Retry-After", "3"}}};
  const std::string wire = to_wire(answer, kWire);
  CHECK_THAT(wire, StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
  CHECK_THAT(wire, Contains("\r\nContent-Type: application/json\r\n"));
  CHECK_THAT(wire, Contains("\r\nContent-Length: 2\r\n"));
  CHECK_THAT(wire, Contains("\r\nRetry-After: 3\r\n"));
  CHECK_THAT(wire, Contains("\r\nx-request-id: r-1\r\n"));
  CHECK_THAT(wire, EndsWith("\r\n\r\n{}"));
  CHECK_THAT(wire, !Contains("Connection: close"));
  WireContext last = kWire;
  last.keep_alive = false;
  CHECK_THAT(to_wire(answer, last), Contains("\r\nConnection: close\r\n"));
  CHECK_THAT(to_wire({.status = 499, .body = {}, .headers = {}}, kWire),
             StartsWith("HTTP/1.1 499 Client Closed Request\r\n"));
}

TEST_CASE("a stream is unbuffered, uncached and in chunks") {
  const std::string head = stream_head(kWire);
  CHECK_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  CHECK_THAT(head, Contains("\r\nContent-Type: text/event-stream; charset=utf-8\r\n"));
  CHECK_THAT(head, Contains("\r\nCache-Control: no-cache\r\n"));
  CHECK_THAT(head, Contains("\r\nX-Accel-Buffering: no\r\n"));
  CHECK_THAT(head, Contains("\r\nTransfer-Encoding: chunked\r\n"));
  CHECK_THAT(head, EndsWith("\r\n\r\n"));
  CHECK(stream_piece("data: 1\n\n", kWire) == "9\r\ndata: 1\n\n\r\n");
  CHECK_THAT(stream_piece(std::string(4096, 'x'), kWire), StartsWith("1000\r\n"));
  CHECK(stream_piece("", kWire).empty());  // an empty chunk would end the stream
  CHECK(stream_end(kWire) == "0\r\n\r\n");
}

TEST_CASE("an HTTP 1.0 client gets no chunks") {
  CHECK_THAT(stream_head(kOldWire), StartsWith("HTTP/1.0 200") && !Contains("chunked"));
  CHECK(stream_piece("data: 1\n\n", kOldWire) == "data: 1\n\n");
  CHECK(stream_end(kOldWire).empty());
  CHECK_THAT(to_wire({.body = {}, .headers = {}}, kOldWire),
             Contains("\r\nConnection: keep-alive\r\n"));
}

TEST_CASE("every route of the contract is found by its method") {
  for (const std::string path :
       {"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"}) {
    CAPTURE(path);
    const RouteMatch match = find_route("POST", path);
    REQUIRE(match.route != nullptr);
    CHECK(match.needs_key);
    const RouteMatch wrong = find_route("GET", path);
    CHECK(wrong.route == nullptr);
    CHECK(wrong.refusal.status == 405);
    CHECK(wrong.refusal.headers ==
          std::vector<std::pair<std::string, std::string>>{{"Allow", "POST"}});
  }
  for (const std::string path :
       {"/v1/models", "/v1/models/m", "/v1/models/org/m", "/health", "/version", "/metrics"}) {
    CAPTURE(path);
    CHECK(find_route("GET", path).route != nullptr);
    CHECK(find_route("GET", path).needs_key);
    CHECK(find_route("POST", path).refusal.status == 405);
  }
}

TEST_CASE("only the probes need no key, unknown routes do") {
  CHECK_FALSE(find_route("GET", "/livez").needs_key);
  CHECK_FALSE(find_route("GET", "/readyz").needs_key);
  for (const std::string path :
       {"/", "/v1", "/v1/chat", "/v1/chat/completions/", "/LIVEZ", "/v1/models/", "/livez/x"}) {
    CAPTURE(path);
    const RouteMatch match = find_route("GET", path);
    CHECK(match.route == nullptr);
    CHECK(match.refusal.status == 404);
    CHECK(match.needs_key);
  }
}

TEST_CASE("a path is decoded once and its query is dropped") {
  CHECK(decode_path("/v1/models/a%2Fb") == "/v1/models/a/b");
  CHECK(decode_path("/v1/models?x=%zz#f") == "/v1/models");
  CHECK(decode_path("/%C3%a9") == "/\xc3\xa9");
  CHECK(decode_path("/%2541") == "/%41");
  for (const std::string bad :
       {"", "v1", "*", "http://h/v1", "/%", "/%4", "/%4g", "/%-1", "/%+1"}) {
    CAPTURE(bad);
    CHECK_FALSE(decode_path(bad));
  }
}

}  // namespace
}  // namespace quire
