#include "server/http/http_answer.h"

#include <boost/beast/http/message.hpp>
#include <charconv>
#include <ctime>

namespace quire {
namespace {

constexpr int kClientClosedRequest = 499;  // a de-facto status, unknown to RFC 9110

std::string_view reason_phrase(int status) {
  if (status == kClientClosedRequest) return "Client Closed Request";
  return boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(status));
}

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[64];
  const size_t num_bytes = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return {text, num_bytes};
}

void add_header(std::string& head, std::string_view name, std::string_view value) {
  head.append(name).append(": ").append(value).append("\r\n");
}

std::string start_head(int status, std::string_view content_type, const WireContext& context) {
  std::string head = context.is_http_1_0 ? "HTTP/1.0 " : "HTTP/1.1 ";
  head.append(std::to_string(status)).append(" ").append(reason_phrase(status)).append("\r\n");
  add_header(head, "Server", "quire");
  add_header(head, "Date", http_date());
  add_header(head, "Content-Type", content_type);
  add_header(head, "X-Content-Type-Options", "nosniff");
  if (!context.request_id.empty()) add_header(head, "x-request-id", context.request_id);
  if (!context.keep_alive) {
    add_header(head, "Connection", "close");
  } else if (context.is_http_1_0) {
    add_header(head, "Connection", "keep-alive");
  }
  return head;
}

}  // namespace

std::string to_wire(const HttpAnswer& answer, const WireContext& context) {
  std::string wire = start_head(answer.status, answer.content_type, context);
  for (const auto& [name, value] : answer.headers) add_header(wire, name, value);
  add_header(wire, "Content-Length", std::to_string(answer.body.size()));
  wire.append("\r\n").append(answer.body);
  return wire;
}

std::string stream_head(const WireContext& context) {
  std::string wire = start_head(200, "text/event-stream; charset=utf-8", context);
  add_header(wire, "Cache-Control", "no-cache");
  add_header(wire, "X-Accel-Buffering", "no");
  if (!context.is_http_1_0) add_header(wire, "Transfer-Encoding", "chunked");
  return wire.append("\r\n");
}

std::string stream_piece(std::string_view bytes, const WireContext& context) {
  if (context.is_http_1_0 || bytes.empty()) return std::string(bytes);
  char size_text[16];
  const auto [end, error] =
      std::to_chars(size_text, size_text + sizeof size_text, bytes.size(), 16);
  std::string wire(size_text, end);
  wire.append("\r\n").append(bytes).append("\r\n");
  return wire;
}

std::string stream_end(const WireContext& context) {
  return context.is_http_1_0 ? std::string() : std::string("0\r\n\r\n");
}

}  // namespace quire
