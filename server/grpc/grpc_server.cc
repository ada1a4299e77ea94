#include "server/grpc/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include "quire/v1/chat.grpc.pb.h"
#include "quire/v1/completion.grpc.pb.h"
#include "quire/v1/models.grpc.pb.h"
#include "quire/v1/tokenizer.grpc.pb.h"
#include "server/grpc/grpc_stream.h"
#include "server/grpc/proto_convert.h"

namespace quire {
namespace {

constexpr auto kHealthPeriod = std::chrono::milliseconds(200);
constexpr auto kCloseGrace = std::chrono::milliseconds(200);  // for clients to see the last bytes

std::string make_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(random()));
  return std::string("grpc-") + text;
}

std::optional<double> seconds_until_deadline(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
  const double seconds =
      std::chrono::duration<double>(deadline - std::chrono::system_clock::now()).count();
  constexpr double kNoDeadlineSeconds = 7 * 86400;  // gRPC's "infinite" comes out as centuries
  if (seconds > kNoDeadlineSeconds) return std::nullopt;
  return std::max(seconds, 0.001);
}

std::string address_of(const GrpcServerConfig& config) {
  const bool is_ipv6 = config.host.find(':') != std::string::npos;
  return (is_ipv6 ? "[" + config.host + "]" : config.host) + ":" + std::to_string(config.port);
}

/// What every method needs: who calls, the service, and the count of open calls.
class Door {
 public:
  Door(InferenceService& service, const Authenticator& auth, OpenCalls& calls)
      : service_(service), auth_(auth), calls_(calls) {}

  Result<std::string> caller(const grpc::CallbackServerContext& context) const {
    std::string_view authorization;
    const auto found = context.client_metadata().find("authorization");
    if (found != context.client_metadata().end()) {
      authorization = {found->second.data(), found->second.size()};
    }
    const auto caller = auth_.identify_bearer(authorization);
    if (caller) return *caller;
    return Status(StatusCode::kUnauthenticated,
                  "a valid API key is needed: authorization: Bearer <key>", {}, "invalid_api_key");
  }

  /// Who calls, and whether `model` is served.
  Status admit(const grpc::CallbackServerContext& context, const std::string& model) const {
    const Result<std::string> who = caller(context);
    return who.ok() ? service_.check_model(model) : who.status();
  }

  GrpcStream* generate(Result<GenerateRequest> request,
                       grpc::CallbackServerContext& context) const {
    const Result<std::string> who = caller(context);
    if (!who.ok()) return GrpcStream::refuse(who.status(), context, calls_);
    if (!request.ok()) return GrpcStream::refuse(request.status(), context, calls_);
    request->request_id = make_id();
    request->api_key_id = who.value();
    request->timeout_seconds = seconds_until_deadline(context);
    return GrpcStream::start(service_, std::move(request).value(), context, calls_);
  }

  InferenceService& service() const { return service_; }
  std::shared_ptr<OpenCalls::Call> open_call() const {
    return std::make_shared<OpenCalls::Call>(calls_);
  }

 private:
  InferenceService& service_;
  const Authenticator& auth_;
  OpenCalls& calls_;
};

class ChatService final : public v1::Chat::CallbackService {
 public:
  explicit ChatService(const Door& door) : door_(door) {}
  grpc::ServerWriteReactor<v1::GenerationEvent>* Complete(grpc::CallbackServerContext* context,
                                                          const v1::ChatRequest* request) override {
    v1::ChatRequest owned = *request;
    return door_.generate(from_proto(owned), *context);
  }

 private:
  const Door& door_;
};

class CompletionService final : public v1::Completion::CallbackService {
 public:
  explicit CompletionService(const Door& door) : door_(door) {}
  grpc::ServerWriteReactor<v1::GenerationEvent>* Complete(
      grpc::CallbackServerContext* context, const v1::CompletionRequest* request) override {
    v1::CompletionRequest owned = *request;
    return door_.generate(from_proto(owned), *context);
  }

 private:
  const Door& door_;
};

class ModelsService final : public v1::Models::CallbackService {
 public:
  explicit ModelsService(const Door& door) : door_(door) {}
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const v1::ListModelsRequest*,
                                 v1::ListModelsResponse* response) override {
    const Status admitted = door_.admit(*context, "");
    if (admitted.ok()) {
      const ServiceConfig& config = door_.service().config();
      add(config, config.model_name, *response);
      for (const std::string& alias : config.model_aliases) add(config, alias, *response);
    }
    auto* reactor = context->DefaultReactor();
    reactor->Finish(to_grpc_status(admitted, *context));
    return reactor;
  }

 private:
  static void add(const ServiceConfig& config, const std::string& id,
                  v1::ListModelsResponse& response) {
    v1::Model& model = *response.add_models();
    model.set_id(id);
    model.set_created(config.created);
    model.set_owned_by("quire");
    model.set_max_model_len(config.max_model_len);
  }

  const Door& door_;
};

class TokenizerService final : public v1::Tokenizer::CallbackService {
 public:
  explicit TokenizerService(const Door& door) : door_(door) {}

  grpc::ServerUnaryReactor* Encode(grpc::CallbackServerContext* context,
                                   const v1::EncodeRequest* request,
                                   v1::EncodeResponse* response) override {
    auto* reactor = context->DefaultReactor();
    const Status admitted = door_.admit(*context, request->model());
    if (!admitted.ok()) {
      reactor->Finish(to_grpc_status(admitted, *context));
      return reactor;
    }
    response->set_max_model_len(door_.service().config().max_model_len);
    const bool adds_special = !request->has_add_special_tokens() || request->add_special_tokens();
    door_.service().tokenize(
        request->text(), adds_special,
        [reactor, context, response,
         call = door_.open_call()](const Result<std::vector<TokenId>>& tokens) {
          if (tokens.ok()) {
            response->mutable_tokens()->Add(tokens.value().begin(), tokens.value().end());
          }
          reactor->Finish(to_grpc_status(tokens.status(), *context));
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* Decode(grpc::CallbackServerContext* context,
                                   const v1::DecodeRequest* request,
                                   v1::DecodeResponse* response) override {
    auto* reactor = context->DefaultReactor();
    const Status admitted = door_.admit(*context, request->model());
    if (!admitted.ok()) {
      reactor->Finish(to_grpc_status(admitted, *context));
      return reactor;
    }
    door_.service().detokenize(
        {request->tokens().begin(), request->tokens().end()},
        [reactor, context, response, call = door_.open_call()](const Result<std::string>& text) {
          if (text.ok()) response->set_text(text.value());
          reactor->Finish(to_grpc_status(text.status(), *context));
        });
    return reactor;
  }

 private:
  const Door& door_;
};

}  // namespace

struct GrpcServer::Impl {
  Impl(const GrpcServerConfig& config, InferenceService& service, const Authenticator& auth,
       const Health& server_health)
      : door(service, auth, calls),
        chat(door),
        completion(door),
        models(door),
        tokenizer(door),
        health(server_health) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    const std::string address = address_of(config);
    int bound_port = 0;
    // Two servers on one port would share the calls between them.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &bound_port);
    builder.SetMaxReceiveMessageSize(
        static_cast<int>(std::min<int64_t>(config.max_message_bytes, INT32_MAX)));
    for (grpc::Service* one :
         std::initializer_list<grpc::Service*>{&chat, &completion, &models, &tokenizer}) {
      builder.RegisterService(one);
    }
    server = builder.BuildAndStart();
    if (!server || bound_port == 0)
      throw std::runtime_error("cannot listen for gRPC on " + address);
    port = static_cast<uint16_t>(bound_port);
    publish_health();
    health_thread = std::jthread([this](const std::stop_token& stop) { follow_health(stop); });
  }

  /// Those who watch are told of changes only.
  void publish_health() {
    auto* published = server->GetHealthCheckService();
    const bool is_ready = health.is_ready();
    if (published == nullptr || was_ready == is_ready) return;
    was_ready = is_ready;
    published->SetServingStatus(is_ready);
    for (const char* service :
         {v1::Chat::service_full_name(), v1::Completion::service_full_name(),
          v1::Models::service_full_name(), v1::Tokenizer::service_full_name()}) {
      published->SetServingStatus(service, is_ready);
    }
  }

  /// Health is a fact that is asked for; grpc.health.v1 wants to be told.
  void follow_health(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      changed.wait_for(lock, stop, kHealthPeriod, [] { return false; });
      if (!stop.stop_requested()) publish_health();
    }
  }

  OpenCalls calls;
  Door door;
  ChatService chat;
  CompletionService completion;
  ModelsService models;
  TokenizerService tokenizer;
  const Health& health;
  std::unique_ptr<grpc::Server> server;
  uint16_t port = 0;
  std::optional<bool> was_ready;  // what grpc.health.v1 was told last
  std::jthread health_thread;
};

GrpcServer::GrpcServer(const GrpcServerConfig& config, InferenceService& service,
                       const Authenticator& auth, const Health& health)
    : impl_(std::make_unique<Impl>(config, service, auth, health)) {}

GrpcServer::~GrpcServer() { stop(std::chrono::steady_clock::now()); }

uint16_t GrpcServer::port() const { return impl_->port; }

void GrpcServer::stop(Clock::TimePoint deadline) {
  if (!impl_->server) return;
  impl_->health_thread.request_stop();
  if (impl_->health_thread.joinable()) impl_->health_thread.join();
  impl_->publish_health();
  // Shutdown waits for connections, too, and a client that is idle may keep its own for ever.
  impl_->calls.wait_until_none(deadline);
  impl_->server->Shutdown(std::chrono::system_clock::now() + kCloseGrace);
  impl_->server.reset();
}

}  // namespace quire
