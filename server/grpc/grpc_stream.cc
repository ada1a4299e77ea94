#include "server/grpc/grpc_stream.h"

#include <cmath>
#include <ctime>
#include <utility>

#include "server/error_table.h"
#include "server/grpc/proto_convert.h"
#include "server/request_validation.h"

namespace quire {
namespace {

constexpr size_t kMaxQueuedEvents = 8192;

}  // namespace

grpc::Status to_grpc_status(const Status& status, grpc::CallbackServerContext& context,
                            std::optional<double> retry_after_seconds) {
  if (status.ok()) return grpc::Status::OK;
  if (!status.param().empty()) context.AddTrailingMetadata("quire-error-param", status.param());
  const std::string code = error_code(status);
  if (!code.empty()) context.AddTrailingMetadata("quire-error-code", code);
  if (retry_after_seconds) {
    const auto seconds = static_cast<int64_t>(std::ceil(*retry_after_seconds));
    context.AddTrailingMetadata("retry-after", std::to_string(seconds));
  }
  return {static_cast<grpc::StatusCode>(status.code()), status.message()};
}

/// The generation holds this; the reactor leaves it when the call ends, so that late events of a
/// cancelled generation find nobody.
class GrpcStream::Events final : public GenerateStream {
 public:
  Events(GrpcStream* reactor, std::string id, std::string model)
      : reactor_(reactor), id_(std::move(id)), model_(std::move(model)) {}

  void on_event(GenerateEvent event) noexcept override {
    const std::lock_guard lock(mutex_);
    if (reactor_ != nullptr)
      std::visit([this](const auto& alternative) { on(alternative); }, event);
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    reactor_ = nullptr;
  }

 private:
  void on(const AdmittedEvent& event) {
    v1::GenerationEvent proto;
    v1::Admitted& admitted = *proto.mutable_admitted();
    admitted.set_id(id_);
    admitted.set_model(model_);
    admitted.set_created(std::time(nullptr));
    admitted.mutable_prompt_tokens()->Add(event.prompt_tokens.begin(), event.prompt_tokens.end());
    reactor_->push(std::move(proto));
  }
  void on(const DoneEvent& event) {
    if (event.status.ok()) reactor_->push(to_proto(event.usage));
    reactor_->finish({event.status, event.retry_after_seconds});
  }
  template <class Event>
  void on(const Event& event) {
    reactor_->push(to_proto(event));
  }

  std::mutex mutex_;
  GrpcStream* reactor_;
  std::string id_, model_;
};

GrpcStream* GrpcStream::start(InferenceService& service, GenerateRequest request,
                              grpc::CallbackServerContext& context, OpenCalls& calls) {
  auto* stream = new GrpcStream(context, calls);
  stream->events_ = std::make_shared<Events>(stream, request.request_id,
                                             name_in_answer(service.config(), request.model));
  RequestHandle handle = service.generate(std::move(request), stream->events_);
  const std::lock_guard lock(stream->mutex_);
  // The call cannot be over yet: gRPC delivers OnCancel and OnDone only after the method returned.
  stream->handle_ = std::move(handle);
  return stream;
}

GrpcStream* GrpcStream::refuse(const Status& status, grpc::CallbackServerContext& context,
                               OpenCalls& calls) {
  auto* stream = new GrpcStream(context, calls);
  stream->is_finished_ = true;
  stream->Finish(to_grpc_status(status, context));
  return stream;
}

void GrpcStream::push(v1::GenerationEvent event) {
  const std::lock_guard lock(mutex_);
  if (is_finished_ || is_cut_off_) return;
  if (queue_.size() >= kMaxQueuedEvents) {
    is_cut_off_ = true;
    context_.TryCancel();
    return;
  }
  queue_.push_back(std::move(event));
  if (!is_writing_) write_next();
}

void GrpcStream::finish(Outcome outcome) {
  const std::lock_guard lock(mutex_);
  if (!outcome_) outcome_ = std::move(outcome);
  if (!is_writing_) write_next();
}

void GrpcStream::write_next() {
  if (is_finished_) return;
  if (!queue_.empty()) {
    is_writing_ = true;
    StartWrite(&queue_.front());
  } else if (outcome_) {
    is_finished_ = true;
    Finish(to_grpc_status(outcome_->status, context_, outcome_->retry_after_seconds));
  }
}

void GrpcStream::OnWriteDone(bool ok) {
  const std::lock_guard lock(mutex_);
  is_writing_ = false;
  queue_.pop_front();
  if (!ok) {
    queue_.clear();
    if (!outcome_) outcome_ = {Status(StatusCode::kCancelled, "the client has left"), {}};
  }
  write_next();
}

void GrpcStream::OnCancel() {
  RequestHandle dropped;
  const std::lock_guard lock(mutex_);
  dropped = std::move(handle_);
  if (!outcome_) outcome_ = {Status(StatusCode::kCancelled, "the call was cancelled"), {}};
  if (!is_writing_) {
    queue_.clear();
    write_next();
  }
}

void GrpcStream::OnDone() {
  if (events_) events_->leave();
  delete this;
}

}  // namespace quire
