#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "server/auth.h"
#include "server/http/http_answer.h"
#include "server/http/http_server.h"
#include "server/http/routes.h"
#include "server/http/timed_socket.h"

namespace quire {

/// What all sessions share; owned by the server and outliving them.
struct SessionContext {
  const HttpServerConfig& config;
  RouteContext routes;
  const Authenticator& auth;
  HttpMetrics& metrics;
  std::atomic<int64_t> num_body_bytes{0};  // of requests being read, over all connections
  std::atomic<bool> is_stopping{false};
};

/// One connection: reads a request, hands it to its route, writes the answer, reads the next. The
/// coroutine and all members live on the connection's strand; other threads reach it through the
/// AnswerChannel, which posts. Reading the next request and noticing that the client left are two
/// uses of one socket, so while an answer is under way the socket is only watched.
class HttpSession final : public std::enable_shared_from_this<HttpSession> {
 public:
  using Socket = TimedSocket::Socket;

  /// `on_destroyed` is called by the destructor, on any thread.
  HttpSession(Socket socket, SessionContext& context, std::function<void()> on_destroyed);
  ~HttpSession();

  void start();
  /// Any thread. An idle connection closes now, a busy one after its answer.
  void close_when_idle();
  /// Any thread. Closes now; a running generation is cancelled.
  void close_now();

 private:
  class Channel;
  class BodyBudget;
  using Parser = TimedSocket::Parser;
  template <class T>
  using Awaitable = TimedSocket::Awaitable<T>;

  Awaitable<void> run();
  Awaitable<bool> serve_request();
  Awaitable<bool> read_header(Parser& parser);
  Awaitable<bool> read_body(Parser& parser, BodyBudget& budget);
  RouteMatch route_request(const Parser& parser, HttpRequest& request);
  Awaitable<void> answer_request(const Route& route, HttpRequest& request);
  Awaitable<void> pump_answer();
  Awaitable<bool> write(const std::string& bytes);
  Awaitable<void> refuse(const HttpAnswer& answer);
  Awaitable<void> wait_for_signal(double seconds);

  void start_handler(const Route& route, HttpRequest request);
  void watch_client();
  void wake() { signal_.cancel(); }
  void count_answer(int status);

  // From the channel, on the strand; `answer_number` tells late calls of an earlier answer.
  void on_respond(uint64_t answer_number, HttpAnswer answer);
  void on_begin_stream(uint64_t answer_number);
  void on_send(uint64_t answer_number, std::string body_piece);
  void on_end_stream(uint64_t answer_number);
  bool is_current(uint64_t answer_number) const {
    return answer_number == answer_number_ && is_answering_ && !is_complete_;
  }

  TimedSocket socket_;
  SessionContext& context_;
  std::function<void()> on_destroyed_;
  boost::asio::steady_timer signal_;  // "something changed", for the coroutine
  bool is_idle_ = true;               // between requests
  bool is_closed_ = false;
  bool is_watching_ = false;

  // The answer under way.
  WireContext wire_;
  uint64_t answer_number_ = 0;
  bool is_answering_ = false;
  bool is_streaming_ = false;
  bool is_complete_ = false;  // all of it is in the outbox
  bool is_client_gone_ = false;
  std::string outbox_;
  RunningAnswer running_;
};

}  // namespace quire
