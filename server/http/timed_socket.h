#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace quire {

/// A client's socket and what was read from it but not yet parsed. Every operation has a time
/// within which it must get on, or else ends with asio::error::timed_out. All members are called
/// on the connection's strand; one coroutine reads and writes at a time.
class TimedSocket {
 public:
  using Executor = boost::asio::strand<boost::asio::io_context::executor_type>;
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Executor>;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using error_code = boost::system::error_code;
  // Coroutines take references to named values only: GCC 12 mislays class-type parameters and
  // temporaries in coroutine frames.
  template <class T>
  using Awaitable = boost::asio::awaitable<T, Executor>;

  explicit TimedSocket(Socket socket);

  Executor executor() { return socket_.get_executor(); }
  bool has_unparsed_bytes() const { return buffer_.size() > 0; }
  size_t num_unparsed_bytes() const { return buffer_.size(); }
  /// Of the write under way.
  size_t num_unsent_bytes() const { return num_unsent_bytes_; }

  /// Returns at once if there are unparsed bytes.
  Awaitable<error_code> wait_for_bytes(double seconds);
  Awaitable<error_code> read_header(Parser& parser, double seconds);
  /// Some of the body. `seconds` are for each such piece.
  Awaitable<error_code> read_body_piece(Parser& parser, double seconds);
  /// All of `bytes`. `seconds` are for each piece that the kernel takes.
  Awaitable<error_code> write(const std::string& bytes, double seconds);
  /// Says that nothing more comes, and takes what the client still sends: closing before it has
  /// been read would be answered with a reset, which can destroy an answer on its way.
  Awaitable<void> linger();

  /// Calls `on_readable(error)` once, when there is something to read, the client has closed, or
  /// the operation was cancelled.
  template <class Handler>
  void watch(Handler on_readable) {
    socket_.async_wait(Socket::wait_read, std::move(on_readable));
  }
  /// Bytes that came without being waited for. False when the client has closed.
  bool take_early_bytes();

  /// Ends all operations under way.
  void cancel();
  void close();

 private:
  class Watchdog;

  Socket socket_;
  boost::beast::flat_buffer buffer_;
  boost::asio::steady_timer timer_;
  std::shared_ptr<uint64_t> watch_number_;  // of the operation that the timer is for
  size_t num_unsent_bytes_ = 0;
};

}  // namespace quire
