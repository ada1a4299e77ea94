#include "server/http/timed_socket.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/read.hpp>
#include <chrono>
#include <utility>

namespace quire {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

// Left alone the kernel hoards megabytes for a client that does not read.
constexpr int kSendBufferBytes = 256 << 10;
constexpr size_t kEarlyBytes = 4096;  // taken at once
constexpr int64_t kMaxLingerBytes = 256 << 20;
constexpr double kLingerSeconds = 5;

auto into(boost::system::error_code& error) {
  return asio::redirect_error(asio::use_awaitable_t<TimedSocket::Executor>(), error);
}

}  // namespace

/// Cancels the socket's operations unless it is destroyed in time.
class TimedSocket::Watchdog {
 public:
  Watchdog(TimedSocket& socket, double seconds)
      : socket_(socket), number_(++*socket.watch_number_) {
    socket.timer_.expires_after(std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(seconds)));
    // The socket may be gone when the timer's handler runs; the number it compares is not.
    socket.timer_.async_wait(
        [&socket, current = socket.watch_number_, number = number_](error_code error) {
          if (error || *current != number) return;
          ++*current;
          socket.cancel();
        });
  }
  ~Watchdog() {
    ++*socket_.watch_number_;
    socket_.timer_.cancel();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// The operation's error, or timed_out if this ended it.
  error_code explain(error_code error) const {
    const bool has_fired = *socket_.watch_number_ != number_;
    return error == asio::error::operation_aborted && has_fired ? asio::error::timed_out : error;
  }

 private:
  TimedSocket& socket_;
  uint64_t number_;
};

TimedSocket::TimedSocket(Socket socket)
    : socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      watch_number_(std::make_shared<uint64_t>(0)) {
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.set_option(Socket::send_buffer_size(kSendBufferBytes), ignored);
}

TimedSocket::Awaitable<boost::system::error_code> TimedSocket::wait_for_bytes(double seconds) {
  error_code error;
  if (has_unparsed_bytes()) co_return error;
  const Watchdog watchdog(*this, seconds);
  co_await socket_.async_wait(Socket::wait_read, into(error));
  co_return watchdog.explain(error);
}

TimedSocket::Awaitable<boost::system::error_code> TimedSocket::read_header(Parser& parser,
                                                                           double seconds) {
  error_code error;
  const Watchdog watchdog(*this, seconds);
  co_await http::async_read_header(socket_, buffer_, parser, into(error));
  co_return watchdog.explain(error);
}

TimedSocket::Awaitable<boost::system::error_code> TimedSocket::read_body_piece(Parser& parser,
                                                                               double seconds) {
  error_code error;
  const Watchdog watchdog(*this, seconds);
  co_await http::async_read_some(socket_, buffer_, parser, into(error));
  co_return watchdog.explain(error);
}

TimedSocket::Awaitable<boost::system::error_code> TimedSocket::write(const std::string& bytes,
                                                                     double seconds) {
  error_code error;
  size_t num_sent = 0;
  num_unsent_bytes_ = bytes.size();
  while (num_sent < bytes.size() && !error) {
    const Watchdog watchdog(*this, seconds);
    num_sent += co_await socket_.async_write_some(
        asio::buffer(bytes.data() + num_sent, bytes.size() - num_sent), into(error));
    num_unsent_bytes_ = bytes.size() - num_sent;
    error = watchdog.explain(error);
  }
  co_return error;
}

TimedSocket::Awaitable<void> TimedSocket::linger() {
  error_code error;
  socket_.shutdown(Socket::shutdown_send, error);
  std::string discarded(64 << 10, '\0');
  int64_t num_discarded = 0;
  while (!error && num_discarded < kMaxLingerBytes) {
    const Watchdog watchdog(*this, kLingerSeconds);
    num_discarded += static_cast<int64_t>(
        co_await socket_.async_read_some(asio::buffer(discarded), into(error)));
  }
}

bool TimedSocket::take_early_bytes() {
  error_code error;
  socket_.non_blocking(true, error);
  const size_t num_bytes = socket_.read_some(buffer_.prepare(kEarlyBytes), error);
  buffer_.commit(num_bytes);
  return num_bytes > 0 || error == asio::error::would_block;
}

void TimedSocket::cancel() {
  error_code ignored;
  socket_.cancel(ignored);
}

void TimedSocket::close() {
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace quire
