#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/http/http_answer.h"
#include "server/http/openai_format.h"
#include "server/request.h"

namespace quire {

/// Where an answer's bytes go: the connection, seen from other threads. Any thread; never blocks;
/// calls after the connection's end do nothing. Either `respond` once, or `begin_stream`, pieces
/// and `end_stream`.
class AnswerChannel {
 public:
  virtual ~AnswerChannel() = default;
  virtual void respond(HttpAnswer answer) = 0;
  virtual void begin_stream() = 0;
  virtual void send(std::string body_piece) = 0;
  virtual void end_stream() = 0;
};

/// Server-sent events, in the order the contract wants: (progress), role chunk with the first
/// token, deltas, finish, usage, [DONE]. A refusal before admission is a plain JSON error.
std::shared_ptr<GenerateStream> make_event_stream(AnswerIdentity identity, bool wants_usage_chunk,
                                                  std::shared_ptr<AnswerChannel> channel);

/// Collects the whole answer.
std::shared_ptr<GenerateStream> make_collecting_stream(AnswerIdentity identity, size_t num_choices,
                                                       std::shared_ptr<AnswerChannel> channel);

}  // namespace quire
