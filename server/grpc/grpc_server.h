#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/admin/health.h"
#include "server/auth.h"
#include "server/inference_service.h"

namespace quire {

struct GrpcServerConfig {
  std::string host = "127.0.0.1";
  uint16_t port = 8001;  // 0 = any free one; see GrpcServer::port
  int64_t max_message_bytes = 64 << 20;
};

/// quire.v1, grpc.health.v1 and server reflection, on gRPC's callback threads.
class GrpcServer {
 public:
  /// Binds and serves; throws std::runtime_error naming host and port if it cannot. References must
  /// outlive the server.
  GrpcServer(const GrpcServerConfig& config, InferenceService& service, const Authenticator& auth,
             const Health& health);
  ~GrpcServer();
  uint16_t port() const;
  /// Health says NOT_SERVING at once; calls may finish until `deadline`, then they are cancelled.
  void stop(Clock::TimePoint deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
