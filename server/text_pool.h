#pragma once

#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

namespace quire {

/// Threads for text, in two lanes: encoding a multi-megabyte prompt takes a while and must not
/// delay the characters of running answers. What belongs to one request runs on its own strand of
/// the answer lane, in order.
class TextPool {
 public:
  using Strand = boost::asio::strand<boost::asio::thread_pool::executor_type>;

  explicit TextPool(int num_threads) : prompts_(num_threads), answers_(num_threads) {}

  boost::asio::thread_pool& prompts() { return prompts_; }
  Strand make_answer_strand() { return Strand(answers_.get_executor()); }

  /// Drops what has not started, waits for the rest.
  void stop() {
    prompts_.stop();
    answers_.stop();
    prompts_.join();
    answers_.join();
  }

 private:
  boost::asio::thread_pool prompts_;
  boost::asio::thread_pool answers_;
};

}  // namespace quire
