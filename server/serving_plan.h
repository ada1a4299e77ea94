#pragma once

#include <cstdint>
#include <string>

#include "engine/engine_config.h"
#include "engine/kv_cache/kv_storage.h"
#include "models/model_config.h"
#include "server/http/http_server.h"
#include "server/inference_service.h"
#include "server/server_config.h"

namespace quire {

/// Settings, model and machine brought together: what the parts are built with. Pure values.
struct ServingPlan {
  MobaConfig moba;
  EngineConfig engine;
  KvStorage::Shape kv;
  int64_t kv_bytes = 0;
  ServiceConfig service;
  HttpServerConfig http;
};

/// The moba section in force: the folder's, overridden by settings. Throws LoadError for values
/// that do not fit the model.
MobaConfig choose_moba(const ServerConfig& config, ModelConfig model);

/// Throws std::runtime_error, in the words of the flags, where settings and memory do not fit
/// together. `available_bytes`: memory for the KV pool if the settings do not say.
ServingPlan make_serving_plan(const ServerConfig& config, const ModelConfig& model,
                              uint64_t available_bytes);

}  // namespace quire
