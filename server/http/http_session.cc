#include "server/http/http_session.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/error.hpp>
#include <chrono>
#include <random>
#include <utility>

#include "server/http/openai_error.h"

namespace quire {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr size_t kMaxInlineBodyBytes = 64 << 10;  // parsed on the I/O thread
constexpr size_t kMaxPipelinedBytes = 64 << 10;
constexpr size_t kMaxRequestIdBytes = 128;
constexpr int64_t kMaxBodiesAtOnce = 8;  // times max_body_bytes, over all connections
constexpr double kForeverSeconds = 1e6;

std::chrono::nanoseconds duration_of(double seconds) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(seconds));
}

std::string make_request_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(random()),
                static_cast<unsigned long long>(random()));
  return text;
}

/// The client's id if it is harmless in headers and logs, else a new one.
std::string request_id_from(std::string_view given) {
  const bool is_harmless = !given.empty() && given.size() <= kMaxRequestIdBytes &&
                           given.find_first_not_of(
                               "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "-_.:") == std::string_view::npos;
  return is_harmless ? std::string(given) : make_request_id();
}

bool is_http_error(const error_code& error) {
  return error.category() == http::make_error_code(http::error::end_of_stream).category();
}

template <class View>
std::string_view text_of(const View& view) {
  return {view.data(), view.size()};
}

}  // namespace

/// Posts to the session, if it still lives.
class HttpSession::Channel final : public AnswerChannel {
 public:
  Channel(std::weak_ptr<HttpSession> session, uint64_t answer_number)
      : session_(std::move(session)), answer_number_(answer_number) {}

  void respond(HttpAnswer answer) override {
    post([number = answer_number_, answer = std::move(answer)](HttpSession& session) mutable {
      session.on_respond(number, std::move(answer));
    });
  }
  void begin_stream() override {
    post([number = answer_number_](HttpSession& session) { session.on_begin_stream(number); });
  }
  void send(std::string body_piece) override {
    post([number = answer_number_, piece = std::move(body_piece)](HttpSession& session) mutable {
      session.on_send(number, std::move(piece));
    });
  }
  void end_stream() override {
    post([number = answer_number_](HttpSession& session) { session.on_end_stream(number); });
  }

 private:
  template <class Step>
  void post(Step step) {
    if (auto session = session_.lock()) {
      const TimedSocket::Executor strand = session->socket_.executor();
      asio::post(strand, [session = std::move(session), step = std::move(step)]() mutable {
        step(*session);
      });
    }
  }

  std::weak_ptr<HttpSession> session_;
  uint64_t answer_number_;
};

/// What a body being read holds of the memory that all bodies share.
class HttpSession::BodyBudget {
 public:
  explicit BodyBudget(SessionContext& context)
      : context_(context), max_bytes_(kMaxBodiesAtOnce * context.config.max_body_bytes) {}
  ~BodyBudget() { context_.num_body_bytes -= num_bytes_; }
  BodyBudget(const BodyBudget&) = delete;
  BodyBudget& operator=(const BodyBudget&) = delete;

  /// False when all connections together hold too much.
  bool grow_to(size_t num_bytes) {
    const int64_t difference = static_cast<int64_t>(num_bytes) - num_bytes_;
    num_bytes_ += difference;
    return (context_.num_body_bytes += difference) <= max_bytes_;
  }

 private:
  SessionContext& context_;
  int64_t max_bytes_;
  int64_t num_bytes_ = 0;
};

HttpSession::HttpSession(Socket socket, SessionContext& context, std::function<void()> on_destroyed)
    : socket_(std::move(socket)),
      context_(context),
      on_destroyed_(std::move(on_destroyed)),
      signal_(socket_.executor()) {
  context_.metrics.open_connections.add(1);
}

HttpSession::~HttpSession() {
  context_.metrics.open_connections.add(-1);
  on_destroyed_();
}

void HttpSession::start() {
  // The function object, and with it this session, lives until the coroutine has ended.
  asio::co_spawn(
      socket_.executor(), [self = shared_from_this()] { return self->run(); }, asio::detached);
}

void HttpSession::close_when_idle() {
  asio::post(socket_.executor(), [self = shared_from_this()] {
    if (!self->is_idle_) return;
    self->is_closed_ = true;
    self->socket_.close();
  });
}

void HttpSession::close_now() {
  asio::post(socket_.executor(), [self = shared_from_this()] {
    self->is_closed_ = true;
    self->is_client_gone_ = true;
    self->socket_.close();
    self->wake();
  });
}

HttpSession::Awaitable<void> HttpSession::run() {
  try {
    bool goes_on = true;
    while (goes_on && !is_closed_ && !context_.is_stopping) goes_on = co_await serve_request();
    is_idle_ = true;
    if (!is_closed_ && !is_client_gone_ && !context_.is_stopping) co_await socket_.linger();
  } catch (const std::exception& error) {
    spdlog::error("a connection ended: {}", error.what());
  }
  running_ = {};
  socket_.close();
}

/// Returns whether the connection can serve another.
HttpSession::Awaitable<bool> HttpSession::serve_request() {
  is_idle_ = true;
  const error_code silence = co_await socket_.wait_for_bytes(context_.config.idle_timeout_seconds);
  if (silence) co_return false;
  is_idle_ = false;
  Parser parser;
  wire_ = WireContext{.request_id = make_request_id(), .keep_alive = false};
  if (!co_await read_header(parser)) co_return false;

  const auto& head = parser.get();
  HttpRequest request;
  request.request_id = request_id_from(text_of(head["x-request-id"]));
  wire_ = WireContext{.request_id = request.request_id,
                      .keep_alive = parser.keep_alive() && !context_.is_stopping,
                      .is_http_1_0 = head.version() == 10};
  const RouteMatch match = route_request(parser, request);
  if (match.route == nullptr) {
    // Its body, if any, is still to come: this connection cannot go on.
    wire_.keep_alive = wire_.keep_alive && parser.is_done();
    co_await refuse(match.refusal);
    co_return wire_.keep_alive;
  }
  BodyBudget budget(context_);
  if (!co_await read_body(parser, budget)) co_return false;
  request.body = std::move(parser.get().body());
  co_await answer_request(*match.route, request);
  co_return wire_.keep_alive && !is_client_gone_;
}

HttpSession::Awaitable<bool> HttpSession::read_header(Parser& parser) {
  parser.header_limit(static_cast<uint32_t>(context_.config.max_header_bytes));
  parser.body_limit(boost::none);
  const error_code error =
      co_await socket_.read_header(parser, context_.config.header_timeout_seconds);
  if (!error) co_return true;
  if (error == http::error::header_limit) {
    const HttpAnswer refusal =
        protocol_error_answer(431, "the request's header is too large", "header_too_large");
    co_await refuse(refusal);
  } else if (error == http::error::end_of_stream || error == http::error::partial_message ||
             !is_http_error(error)) {
    is_client_gone_ = true;  // closed, reset or too slow: nobody to answer
  } else {
    const HttpAnswer refusal =
        protocol_error_answer(400, "this is not HTTP: " + error.message(), "bad_http");
    co_await refuse(refusal);
  }
  co_return false;
}

/// Everything that can be judged from the header alone.
RouteMatch HttpSession::route_request(const Parser& parser, HttpRequest& request) {
  const auto& head = parser.get();
  RouteMatch match;
  std::optional<std::string> path = decode_path(text_of(head.target()));
  if (!path) {
    match.refusal = protocol_error_answer(400, "the request target is malformed", "bad_target");
    return match;
  }
  match = find_route(std::string(text_of(head.method_string())), *path);
  const std::optional<std::string> caller =
      context_.auth.identify_bearer(text_of(head[http::field::authorization]));
  if (match.needs_key && !caller) {
    match.route = nullptr;
    match.refusal = error_answer(Status(StatusCode::kUnauthenticated,
                                        "a valid API key is needed: Authorization: Bearer <key>",
                                        {}, "invalid_api_key"));
    return match;
  }
  if (match.route == nullptr) return match;
  const auto length = parser.content_length();
  if (length && *length > static_cast<uint64_t>(context_.config.max_body_bytes)) {
    match.route = nullptr;
    match.refusal =
        protocol_error_answer(413,
                              "the body has " + std::to_string(*length) + " bytes; at most " +
                                  std::to_string(context_.config.max_body_bytes) + " are allowed",
                              "body_too_large");
    return match;
  }
  const std::string_view encoding = text_of(head[http::field::content_encoding]);
  if (!encoding.empty() && encoding != "identity") {
    match.route = nullptr;
    match.refusal =
        protocol_error_answer(415, "Content-Encoding is not supported", "unsupported_encoding");
    return match;
  }
  request.target = std::move(*path);
  request.api_key_id = caller.value_or("");
  const std::string_view timeout = text_of(head["X-Request-Timeout"]);
  if (!timeout.empty()) request.timeout_text = std::string(timeout);
  return match;
}

HttpSession::Awaitable<bool> HttpSession::read_body(Parser& parser, BodyBudget& budget) {
  const auto max_bytes = static_cast<uint64_t>(context_.config.max_body_bytes);
  parser.body_limit(max_bytes);
  const bool wants_continue =
      boost::beast::iequals(parser.get()[http::field::expect], "100-continue");
  if (wants_continue && !parser.is_done() && !socket_.has_unparsed_bytes()) {
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!co_await write(go_on)) co_return false;
  }
  while (!parser.is_done()) {
    const error_code error =
        co_await socket_.read_body_piece(parser, context_.config.body_stall_timeout_seconds);
    wire_.keep_alive = wire_.keep_alive && !error;
    if (error == http::error::body_limit) {
      const HttpAnswer refusal = protocol_error_answer(
          413, "the body has more than the " + std::to_string(max_bytes) + " bytes allowed",
          "body_too_large");
      co_await refuse(refusal);
      co_return false;
    }
    if (error == asio::error::timed_out && !is_closed_) {
      const HttpAnswer refusal =
          protocol_error_answer(408, "the body did not arrive in time", "request_timeout");
      co_await refuse(refusal);
      co_return false;
    }
    if (error) {
      is_client_gone_ = true;
      co_return false;
    }
    if (!budget.grow_to(parser.get().body().size())) {
      wire_.keep_alive = false;
      const HttpAnswer refusal =
          error_answer(Status(StatusCode::kUnavailable, "too many large requests at once"), 1.0);
      co_await refuse(refusal);
      co_return false;
    }
  }
  co_return true;
}

HttpSession::Awaitable<void> HttpSession::answer_request(const Route& route, HttpRequest& request) {
  ++answer_number_;
  is_answering_ = true;
  is_streaming_ = is_complete_ = is_client_gone_ = false;
  outbox_.clear();
  start_handler(route, std::move(request));
  watch_client();
  co_await pump_answer();
  if (!is_complete_) context_.metrics.clients_disconnected.add();
  if (is_streaming_) context_.metrics.open_streams.add(-1);
  is_answering_ = false;
  running_ = {};
  while (is_watching_) {
    socket_.cancel();
    co_await wait_for_signal(kForeverSeconds);
  }
}

void HttpSession::start_handler(const Route& route, HttpRequest request) {
  auto channel = std::make_shared<Channel>(weak_from_this(), answer_number_);
  auto handle = [&context = context_, &route, channel](HttpRequest& given) -> RunningAnswer {
    try {
      return route.handle(context.routes, std::move(given), channel);
    } catch (const std::exception& error) {
      spdlog::error("a request failed: {}", error.what());
      channel->respond(error_answer(Status(StatusCode::kInternal, "the request failed")));
      return {};
    }
  };
  if (request.body.size() <= kMaxInlineBodyBytes) {
    running_ = handle(request);
    return;
  }
  // Megabytes of JSON would keep other connections of this thread waiting.
  auto moved = std::make_shared<HttpRequest>(std::move(request));
  context_.routes.service.post_text_work(
      [self = shared_from_this(), handle, moved, number = answer_number_] {
        auto running = std::make_shared<RunningAnswer>(handle(*moved));
        asio::post(self->socket_.executor(), [self, running, number] {
          // Dropped, and with it cancelled, if the client has left meanwhile.
          if (self->answer_number_ == number && self->is_answering_) {
            self->running_ = std::move(*running);
          }
        });
      });
}

/// Writes what the outbox gets until the answer is complete or nobody reads it.
HttpSession::Awaitable<void> HttpSession::pump_answer() {
  while (!is_client_gone_ && !(is_complete_ && outbox_.empty())) {
    if (!outbox_.empty()) {
      const std::string piece = std::exchange(outbox_, {});
      if (!co_await write(piece)) is_client_gone_ = true;
      continue;
    }
    const auto silent_since = std::chrono::steady_clock::now();
    const double patience =
        is_streaming_ ? context_.config.keepalive_comment_seconds : kForeverSeconds;
    co_await wait_for_signal(patience);
    const double silence = seconds_between(silent_since, std::chrono::steady_clock::now());
    if (is_streaming_ && outbox_.empty() && !is_complete_ && silence >= patience) {
      outbox_ = stream_piece(": keep-alive\n\n", wire_);
    }
  }
}

/// Returns false when the client is gone or takes nothing.
HttpSession::Awaitable<bool> HttpSession::write(const std::string& bytes) {
  const error_code error =
      co_await socket_.write(bytes, context_.config.write_stall_timeout_seconds);
  co_return !error && !is_client_gone_;
}

HttpSession::Awaitable<void> HttpSession::refuse(const HttpAnswer& answer) {
  count_answer(answer.status);
  const std::string wire = to_wire(answer, wire_);
  if (!co_await write(wire)) is_client_gone_ = true;
}

HttpSession::Awaitable<void> HttpSession::wait_for_signal(double seconds) {
  signal_.expires_after(duration_of(seconds));
  error_code ignored;
  co_await signal_.async_wait(
      asio::redirect_error(asio::use_awaitable_t<TimedSocket::Executor>(), ignored));
}

/// While an answer is under way: a closed connection cancels it. Bytes of a next request that did
/// not wait for this answer are kept.
void HttpSession::watch_client() {
  is_watching_ = true;
  socket_.watch([self = shared_from_this()](error_code error) {
    self->is_watching_ = false;
    if (!error && self->is_answering_) {
      if (!self->socket_.take_early_bytes()) {
        self->is_client_gone_ = true;
        self->socket_.cancel();
      } else if (self->socket_.num_unparsed_bytes() < kMaxPipelinedBytes) {
        return self->watch_client();
      }
    }
    self->wake();
  });
}

void HttpSession::count_answer(int status) {
  HttpMetrics& metrics = context_.metrics;
  Counter& counter = status < 400   ? metrics.responses_2xx
                     : status < 500 ? metrics.responses_4xx
                                    : metrics.responses_5xx;
  counter.add();
  if (status == 429 || status == 503) metrics.requests_rejected.add();
}

void HttpSession::on_respond(uint64_t answer_number, HttpAnswer answer) {
  if (!is_current(answer_number)) return;
  wire_.keep_alive = wire_.keep_alive && !context_.is_stopping;
  count_answer(answer.status);
  outbox_ += to_wire(answer, wire_);
  is_complete_ = true;
  wake();
}

void HttpSession::on_begin_stream(uint64_t answer_number) {
  if (!is_current(answer_number)) return;
  is_streaming_ = true;
  context_.metrics.open_streams.add(1);
  count_answer(200);
  if (wire_.is_http_1_0) wire_.keep_alive = false;
  outbox_ += stream_head(wire_);
  wake();
}

void HttpSession::on_send(uint64_t answer_number, std::string body_piece) {
  if (!is_current(answer_number)) return;
  outbox_ += stream_piece(body_piece, wire_);
  const auto max_bytes = static_cast<size_t>(context_.config.max_unsent_stream_bytes);
  if (outbox_.size() + socket_.num_unsent_bytes() > max_bytes) {
    spdlog::warn("request={} cut off: the client does not read its stream", wire_.request_id);
    is_client_gone_ = true;
    socket_.cancel();
  }
  wake();
}

void HttpSession::on_end_stream(uint64_t answer_number) {
  if (!is_current(answer_number)) return;
  outbox_ += stream_end(wire_);
  is_complete_ = true;
  wake();
}

}  // namespace quire
