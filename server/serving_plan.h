#pragma once

#include <cstdint>
#include <string>

#include "engine/engine_config.h"
#include "engine/kv_cache/kv_storage.h"
#include "kernels/backend.h"
#include "models/generation_config.h"
#include "models/model_config.h"
#include "server/http/http_server.h"
#include "server/inference_service.h"
#include "server/server_config.h"

namespace quire {

/// Settings, model and machine brought together: what the parts are built with. Pure values.
struct ServingPlan {
  MobaConfig moba;
  bool is_trained_for_moba = false;  // the folder says so
  EngineConfig engine;
  KvStorage::Shape kv;
  int64_t kv_bytes = 0;
  ServiceConfig service;
  HttpServerConfig http;
};

/// The moba section in force: the folder's, overridden by settings. Throws LoadError for values
/// that do not fit the model.
MobaConfig choose_moba(const ServerConfig& config, ModelConfig model);

/// What --weights says of matrices that are not in FP8.
WeightFormat weight_format(const ServerConfig& config);

/// Memory for the KV pool if the settings do not say.
struct PoolMemory {
  static constexpr double kHostShare = 0.5;  // other programs live there, too

  PoolMemory(uint64_t available, double pool_share = kHostShare)
      : available_bytes(available), share(pool_share) {}

  uint64_t available_bytes;  // 0: not known
  double share;              // of it that the pool takes
};

/// `sampling` is for requests that do not say. Throws std::runtime_error, in the words of the
/// flags, where settings and memory do not fit together.
ServingPlan make_serving_plan(const ServerConfig& config, const ModelConfig& model,
                              const PoolMemory& memory, const SamplingDefaults& sampling = {});

/// What the pool may take of a device's own memory: its share after what is in use already (the
/// weights, other programs) and what the steps will need. Throws std::runtime_error with the
/// numbers if nothing is left.
PoolMemory pool_memory_on_device(const ServerConfig& config, const DeviceMemory& memory,
                                 uint64_t step_bytes);

}  // namespace quire
