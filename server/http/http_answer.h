#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quire {

/// A whole answer, before it is put on the wire.
struct HttpAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // beside those every answer has
};

/// What the wire needs to know about the exchange.
struct WireContext {
  std::string request_id;
  bool keep_alive = true;  // the connection serves another request after this
  bool is_http_1_0 = false;
};

/// Status line, headers and body. REQUIRES: no header value has a line break.
std::string to_wire(const HttpAnswer& answer, const WireContext& context);

/// Status line and headers of an event stream. Its end is the last chunk, or, to an HTTP/1.0
/// client, the end of the connection.
std::string stream_head(const WireContext& context);
/// One piece of a stream's body.
std::string stream_piece(std::string_view bytes, const WireContext& context);
std::string stream_end(const WireContext& context);

}  // namespace quire
