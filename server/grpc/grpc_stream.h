#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <mutex>

#include "quire/v1/generation.pb.h"
#include "server/inference_service.h"
#include "server/request.h"

namespace quire {

/// The call's status for `status`; what gRPC has no field for goes to the trailing metadata.
grpc::Status to_grpc_status(const Status& status, grpc::CallbackServerContext& context);

/// One Complete call: a GenerateStream on one side, gRPC's write reactor on the other, a bounded
/// queue between them. A client that does not read is cancelled when the queue is full. Deletes
/// itself when gRPC is done with it.
class GrpcStream final : public grpc::ServerWriteReactor<v1::GenerationEvent> {
 public:
  /// Starts the request. `context` lives until OnDone.
  static GrpcStream* start(InferenceService& service, GenerateRequest request,
                           grpc::CallbackServerContext& context);
  /// A call that is refused before it reaches the service.
  static GrpcStream* refuse(const Status& status, grpc::CallbackServerContext& context);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  class Events;

  explicit GrpcStream(grpc::CallbackServerContext& context) : context_(context) {}
  void push(v1::GenerationEvent event);
  void finish(const Status& status);
  void write_next();  // REQUIRES: mutex_ is held

  grpc::CallbackServerContext& context_;
  std::mutex mutex_;
  std::deque<v1::GenerationEvent> queue_;  // front: being written
  bool is_writing_ = false;
  bool is_finished_ = false;  // Finish was called
  bool is_cut_off_ = false;
  std::unique_ptr<Status> outcome_;  // once the generation is done
  std::shared_ptr<Events> events_;
  RequestHandle handle_;
};

}  // namespace quire
