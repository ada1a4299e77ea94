#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "quire/v1/generation.pb.h"
#include "server/grpc/open_calls.h"
#include "server/inference_service.h"
#include "server/request.h"

namespace quire {

/// The call's status for `status`; what gRPC has no field for goes to the trailing metadata.
grpc::Status to_grpc_status(const Status& status, grpc::CallbackServerContext& context,
                            std::optional<double> retry_after_seconds = std::nullopt);

/// One Complete call: a GenerateStream on one side, gRPC's write reactor on the other, a bounded
/// queue between them. A client that does not read is cancelled when the queue is full. Deletes
/// itself when gRPC is done with it.
class GrpcStream final : public grpc::ServerWriteReactor<v1::GenerationEvent> {
 public:
  /// Starts the request. `context` lives until OnDone; `calls` outlives the call.
  static GrpcStream* start(InferenceService& service, GenerateRequest request,
                           grpc::CallbackServerContext& context, OpenCalls& calls);
  /// A call that is refused before it reaches the service.
  static GrpcStream* refuse(const Status& status, grpc::CallbackServerContext& context,
                            OpenCalls& calls);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Events;

  struct Outcome {
    Status status;
    std::optional<double> retry_after_seconds;
  };

  GrpcStream(grpc::CallbackServerContext& context, OpenCalls& calls)
      : context_(context), call_(calls) {}
  void push(v1::GenerationEvent event);
  void finish(Outcome outcome);
  void write_next();  // REQUIRES: mutex_ is held

  grpc::CallbackServerContext& context_;
  const OpenCalls::Call call_;
  std::mutex mutex_;
  std::deque<v1::GenerationEvent> queue_;  // front: being written
  bool is_writing_ = false;
  bool is_finished_ = false;  // Finish was called
  bool is_cut_off_ = false;
  std::optional<Outcome> outcome_;  // once the generation is done or the client has left
  std::shared_ptr<Events> events_;
  RequestHandle handle_;
};

}  // namespace quire
