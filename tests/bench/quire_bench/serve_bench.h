#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quire::bench {

struct ServeOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::string api_key;
  std::string model;                          // as the request names it; empty: not at all
  std::vector<int32_t> num_streams = {1, 8};  // requests that are open at once
  int32_t requests_per_stream = 4;            // one after the other
  int32_t prompt_words = 32;                  // random ones; every prompt is another
  int32_t max_tokens = 64;
  uint32_t seed = 1;
  int32_t background_prefill = 0;  // tokens of a prompt that is read meanwhile; 0: none
};

/// What clients of one number of streams saw. Times in seconds.
struct ServeMeasurement {
  int32_t num_streams = 0;
  int64_t num_requests = 0;
  int64_t num_failed = 0;  // no complete answer with status 200
  std::string failure;     // the first one
  double wall_seconds = 0;
  int64_t prompt_tokens = 0;                // as the server counts them
  int64_t completion_tokens = 0;            // likewise
  std::vector<double> first_token_seconds;  // from the request's first byte, one a request
  std::vector<double> gap_seconds;          // between a stream's events that carry text
  double background_seconds = 0;            // to the first token of the background's answer
};

/// Asks a running server for streamed completions over HTTP/1.1, a connection per request. One
/// request goes ahead unmeasured. Works with any server of OpenAI's /v1/completions; `ignore_eos`
/// makes the answers equally long where it is known.
///
/// With a background prefill, one long prompt of random token ids is sent with the streams, which
/// then ask one request after the other until its first token is there; what they see later does
/// not count. A server that was not asked for the same before has none of it cached. Throws
/// std::runtime_error where nobody listens, or where quire-bench was built without the server's
/// libraries.
std::vector<ServeMeasurement> run_serve(const ServeOptions& options);

}  // namespace quire::bench
