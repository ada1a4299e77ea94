#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/core/metrics.h"
#include "engine/engine.h"
#include "engine/scheduler/queue_gate.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "models/generation_config.h"
#include "server/request.h"

namespace quire {

struct ServiceConfig {
  std::string model_name;  // as served
  std::vector<std::string> model_aliases;
  bool accepts_any_model = false;  // other names stand for model_name
  int64_t created = 0;             // unix seconds, for /v1/models
  int32_t max_model_len = 0;       // tokens
  int32_t max_choices = 128;       // cap of n * prompts
  int32_t max_top_k = 64;          // cap of attention.top_k
  std::optional<double> default_timeout_seconds;
  int num_text_threads = 2;
  std::vector<TokenId> eos_token_ids;
  SamplingDefaults sampling;       // of requests that do not say
  std::string system_fingerprint;  // "fp_…": model and semantics, not the machine
};

/// Keeps a request alive. Move-only; destroying it cancels the request (nothing happens once it is
/// done). Any thread.
class RequestHandle {
 public:
  RequestHandle() = default;
  class Cancellable {
   public:
    virtual ~Cancellable() = default;
    virtual void cancel() noexcept = 0;
  };
  explicit RequestHandle(std::shared_ptr<Cancellable> request) : request_(std::move(request)) {}
  RequestHandle(RequestHandle&&) noexcept = default;
  RequestHandle& operator=(RequestHandle&& other) noexcept {
    cancel();
    request_ = std::move(other.request_);
    return *this;
  }
  ~RequestHandle() { cancel(); }
  void cancel() noexcept {
    if (request_) request_->cancel();
    request_.reset();
  }

 private:
  std::shared_ptr<Cancellable> request_;
};

/// THE service behind both protocols: validate, take a queue ticket, template, tokenise, submit,
/// decode, match stop strings, count. Thread-safe; returns at once, the work is done on the text
/// pool and the engine thread.
class InferenceService {
 public:
  InferenceService(const ServiceConfig& config, Engine& engine, const Tokenizer& tokenizer,
                   const ChatTemplate& chat_template, QueueGate& queue_gate, const Clock& clock,
                   EngineMetrics& metrics);
  ~InferenceService();  // cancels what runs and joins the text pool

  /// Every outcome, refusals included, arrives on the stream.
  [[nodiscard]] RequestHandle generate(GenerateRequest request,
                                       std::shared_ptr<GenerateStream> stream);

  /// On the text pool; `done` is called there exactly once.
  void tokenize(TokenizeInput input, bool add_special_tokens,
                std::function<void(Result<std::vector<TokenId>>)> done);
  void detokenize(std::vector<int64_t> tokens, std::function<void(Result<std::string>)> done);

  /// Runs `work` on the text pool, behind the prompts that are being encoded there: parsing of
  /// large bodies. `work` must not throw.
  void post_text_work(std::function<void()> work);

  /// kNotFound (detail "model_not_found") unless `model` is served. Empty means the served one.
  Status check_model(const std::string& model) const;
  const ServiceConfig& config() const;
  const Tokenizer& tokenizer() const;
  bool is_draining() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace quire
