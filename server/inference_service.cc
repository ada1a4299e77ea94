#include "server/inference_service.h"

#include <boost/asio/post.hpp>

#include "server/generation.h"
#include "server/request_validation.h"
#include "server/text_pool.h"

namespace quire {

struct InferenceService::Impl {
  Impl(const ServiceConfig& service_config, Engine& engine, const Tokenizer& tokenizer,
       const ChatTemplate& chat_template, QueueGate& queue_gate, const Clock& clock,
       EngineMetrics& metrics)
      : config(service_config),
        text_pool(config.num_text_threads),
        prompt_encoder(tokenizer),
        context{config,     engine, tokenizer, chat_template, prompt_encoder,
                queue_gate, clock,  metrics,   text_pool} {}

  /// Prompt lane.
  Result<std::vector<TokenId>> encode(const TokenizeInput& input, bool add_special_tokens) const {
    const auto* chat = std::get_if<GenerateRequest::ChatInput>(&input);
    Result<std::vector<TokenId>> ids = chat != nullptr
                                           ? context.encode_chat(*chat)
                                           : context.tokenizer.encode(std::get<std::string>(input));
    if (ids.ok() && add_special_tokens) context.add_bos(ids.value());
    return ids;
  }

  const ServiceConfig config;
  TextPool text_pool;
  const PromptEncoder prompt_encoder;
  GenerationContext context;
};

InferenceService::InferenceService(const ServiceConfig& config, Engine& engine,
                                   const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                   QueueGate& queue_gate, const Clock& clock,
                                   EngineMetrics& metrics)
    : impl_(std::make_unique<Impl>(config, engine, tokenizer, chat_template, queue_gate, clock,
                                   metrics)) {}

InferenceService::~InferenceService() { impl_->text_pool.stop(); }

RequestHandle InferenceService::generate(GenerateRequest request,
                                         std::shared_ptr<GenerateStream> stream) {
  auto generation =
      std::make_shared<Generation>(impl_->context, std::move(request), std::move(stream));
  generation->start();
  return RequestHandle(std::move(generation));
}

void InferenceService::tokenize(TokenizeInput input, bool add_special_tokens,
                                std::function<void(Result<std::vector<TokenId>>)> done) {
  boost::asio::post(impl_->text_pool.prompts(),
                    [this, input = std::move(input), add_special_tokens, done = std::move(done)] {
                      done(impl_->encode(input, add_special_tokens));
                    });
}

void InferenceService::detokenize(std::vector<int64_t> tokens,
                                  std::function<void(Result<std::string>)> done) {
  boost::asio::post(impl_->text_pool.prompts(), [this, tokens = std::move(tokens),
                                                 done = std::move(done)] {
    const int64_t vocab_size = tokenizer().vocab_size();
    std::vector<TokenId> ids;
    ids.reserve(tokens.size());
    for (const int64_t token : tokens) {
      if (token < 0 || token >= vocab_size) {
        return done(invalid_argument("tokens has id " + std::to_string(token) +
                                         " outside the vocabulary of " + std::to_string(vocab_size),
                                     "tokens"));
      }
      ids.push_back(static_cast<TokenId>(token));
    }
    done(tokenizer().decode(ids, false));
  });
}

void InferenceService::post_text_work(std::function<void()> work) {
  boost::asio::post(impl_->text_pool.prompts(), std::move(work));
}

Status InferenceService::check_model(const std::string& model) const {
  return check_served(impl_->config, model);
}

const ServiceConfig& InferenceService::config() const { return impl_->config; }
const Tokenizer& InferenceService::tokenizer() const { return impl_->context.tokenizer; }
bool InferenceService::is_draining() const { return impl_->context.engine.is_draining(); }

}  // namespace quire
