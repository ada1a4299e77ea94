#include "server/banner.h"

#include <array>
#include <cstdio>

namespace quire {
namespace {

const char* mode_name(AttentionMode mode) { return mode == AttentionMode::kMoba ? "moba" : "full"; }

std::string attention_line(const ServingPlan& plan) {
  const EngineConfig& engine = plan.engine;
  const MobaConfig& moba = engine.moba;
  std::string line = std::string("prefill ") + mode_name(moba.prefill) + ", decode " +
                     mode_name(moba.decode) + "; moba: blocks of " +
                     std::to_string(moba.block_size) + " tokens, top " + std::to_string(moba.top_k);
  if (moba.top_k_of_decode() != moba.top_k) {
    line += " (" + std::to_string(moba.top_k_of_decode()) + " in decode)";
  }
  if (moba.schedule.num_stages > 0) line += "; schedule " + schedule_text(moba.schedule);
  if (moba.digest != BlockDigest::kMean) {
    line += "; digest " + std::string(digest_name(moba.digest));
  }
  if (!moba.full_attention_layers.empty()) {
    line += "; full attention in layers " + layers_text(moba.full_attention_layers) + " of " +
            std::to_string(engine.num_layers);
  }
  if (plan.is_trained_for_moba) return line;
  const bool is_full = moba.prefill == AttentionMode::kFull && moba.decode == AttentionMode::kFull;
  line += "; the weights were not trained for MoBA: ";
  return line + (is_full ? "requests that ask for it are approximated"
                         : "by the settings' choice, answers are approximated");
}

std::string sampling_line(const SamplingDefaults& sampling) {
  std::string line = sampling_text(sampling) + " where a request does not say";
  if (sampling.is_from_file) line += " (generation_config.json)";
  for (size_t i = 0; i < sampling.unused_keys.size(); ++i) {
    line += (i == 0 ? "; not honoured there: " : ", ") + sampling.unused_keys[i];
  }
  return line;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

}  // namespace

std::string layers_text(const std::vector<int32_t>& layers) {
  std::string text;
  for (size_t i = 0; i < layers.size(); ++i) {
    const size_t first = i;
    while (i + 1 < layers.size() && layers[i + 1] == layers[i] + 1) ++i;
    text += (text.empty() ? "" : ", ") + std::to_string(layers[first]);
    if (i > first) text += "-" + std::to_string(layers[i]);
  }
  return text;
}

std::string format_bytes(int64_t num_bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(num_bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) value /= 1024, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

std::string format_count(int64_t count) {
  std::string text = std::to_string(count);
  for (auto pos = static_cast<int64_t>(text.size()) - 3; pos > 0; pos -= 3) {
    text.insert(static_cast<size_t>(pos), ",");
  }
  return text;
}

std::string make_banner(const ServerConfig& config, const ServingPlan& plan, const Model& model,
                        const Backend& backend) {
  const int64_t num_pool_tokens = int64_t{plan.kv.num_blocks} * plan.kv.block_size;
  std::string banner;
  const auto add = [&](const char* name, const std::string& value) {
    banner.append("\n  ").append(name).append(value);
  };
  banner = "Quire " QUIRE_VERSION;
  add("model      ", plan.service.model_name + " (" + config.model.string() + "), weights " +
                         model.weight_types() + ", " + format_bytes(model.weight_bytes()));
  add("backend    ", std::string(backend.name()) + ": " + std::string(backend.description()));
  add("context    ", format_count(plan.engine.max_model_len) + " tokens");
  add("KV pool    ", format_count(num_pool_tokens) + " tokens in " + format_bytes(plan.kv_bytes) +
                         " (" + config.kv_dtype + "): room for " +
                         std::to_string(num_pool_tokens / plan.engine.max_model_len) +
                         " full-length requests; prefix cache " +
                         (plan.engine.enable_prefix_cache ? "on" : "off"));
  add("attention  ", attention_line(plan));
  add("sampling   ", sampling_line(plan.service.sampling));
  add("auth       ", config.api_keys.empty()
                         ? "none: everybody who reaches the port is let in"
                         : std::to_string(config.api_keys.size()) + " API key(s)");
  if (config.api_keys.empty() && !is_loopback(config.host)) {
    add("WARNING    ", "open to the network without an API key");
  }
  return banner;
}

}  // namespace quire
