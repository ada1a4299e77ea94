#include "server/generation.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "server/request_validation.h"

namespace quire {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // OpenAI's default of /v1/completions
constexpr double kMinRetrySeconds = 1, kMaxRetrySeconds = 120;
constexpr double kDrainRetrySeconds = 5;

const char* reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "?";
}

}  // namespace

Result<std::vector<TokenId>> GenerationContext::encode_chat(
    const GenerateRequest::ChatInput& chat) const {
  const auto prompt = chat_template.render(chat.messages, chat.options);
  if (!prompt.ok()) return prompt.status();
  return prompt_encoder.encode(prompt.value());
}

void GenerationContext::add_bos(std::vector<TokenId>& ids) const {
  if (tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
}

/// Carries a sequence's events from the engine thread to the generation's strand.
class Generation::Sink final : public EventSink {
 public:
  Sink(std::shared_ptr<Generation> generation, size_t choice_idx)
      : generation_(std::move(generation)), choice_idx_(choice_idx) {}
  void on_event(EngineEvent event) noexcept override {
    boost::asio::post(generation_->strand_, [generation = generation_, choice_idx = choice_idx_,
                                             moved = std::move(event)]() mutable {
      generation->on_engine_event(choice_idx, std::move(moved));
    });
  }

 private:
  std::shared_ptr<Generation> generation_;
  size_t choice_idx_;
};

Generation::Generation(GenerationContext& context, GenerateRequest request,
                       std::shared_ptr<GenerateStream> stream)
    : context_(context),
      request_(std::move(request)),
      stream_(std::move(stream)),
      strand_(context.text_pool.make_answer_strand()),
      num_choices_(num_choices(request_)),
      received_at_(context.clock.now()) {}

void Generation::start() {
  boost::asio::post(strand_, [self = shared_from_this()] {
    const Status refusal = self->refuse_early();
    if (!refusal.ok()) return self->finish(refusal);
    Result<std::unique_ptr<QueueTicket>> ticket =
        self->context_.queue_gate.enter(estimate_tokens(self->request_));
    if (!ticket.ok()) return self->finish(ticket.status());
    self->ticket_ = std::move(ticket).value();
    boost::asio::post(self->context_.text_pool.prompts(), [self] { self->encode(); });
  });
}

void Generation::cancel() noexcept {
  is_cancelled_ = true;
  boost::asio::post(strand_, [self = shared_from_this()] {
    self->finish(Status(StatusCode::kCancelled, "the request was cancelled"));
  });
}

Status Generation::refuse_early() const {
  if (context_.engine.is_draining()) {
    return Status(StatusCode::kUnavailable, "the server is shutting down");
  }
  const Status known = check_served(context_.config, request_.model);
  if (!known.ok()) return known;
  return validate(request_, context_.config, context_.tokenizer.vocab_size());
}

void Generation::encode() {
  if (is_cancelled_) return;
  Status status = encode_prompts();
  if (status.ok()) status = fit_into_context();
  boost::asio::post(strand_, [self = shared_from_this(), status] {
    if (self->is_done_) return;
    if (!status.ok()) return self->finish(status);
    self->submit();
  });
}

Status Generation::encode_prompts() {
  if (const auto* chat = std::get_if<GenerateRequest::ChatInput>(&request_.input)) {
    Result<std::vector<TokenId>> prompt = context_.encode_chat(*chat);
    if (!prompt.ok()) return prompt.status();
    prompts_.push_back(std::move(prompt).value());
    if (prompts_.back().empty()) {
      return invalid_argument("the model's chat template makes an empty prompt of this",
                              "messages");
    }
  } else if (const auto* text = std::get_if<GenerateRequest::TextInput>(&request_.input)) {
    for (const std::string& prompt : text->prompts) {
      std::vector<TokenId> ids = context_.tokenizer.encode(prompt);
      context_.add_bos(ids);
      if (ids.empty()) return invalid_argument("prompt must hold at least one token", "prompt");
      prompts_.push_back(std::move(ids));
    }
  } else {
    prompts_ = std::move(std::get<GenerateRequest::TokenInput>(request_.input).prompts);
  }
  if (!request_.echo) request_.input = GenerateRequest::TextInput{};  // megabytes of text
  return {};
}

Status Generation::fit_into_context() {
  const bool is_chat = request_.is_chat;
  const int64_t context_tokens = context_.config.max_model_len;
  size_t longest = 0;
  int64_t num_prompt_tokens = 0;
  for (const auto& prompt : prompts_) {
    longest = std::max(longest, prompt.size());
    num_prompt_tokens += static_cast<int64_t>(prompt.size());
  }
  const auto num_longest = static_cast<int64_t>(longest);
  const int64_t num_wanted =
      request_.max_tokens.value_or(default_max_tokens(context_tokens - num_longest));
  if (num_longest + num_wanted > context_tokens) {
    return invalid_argument(
        "This model's maximum context length is " + std::to_string(context_tokens) +
            " tokens. However, you requested " + std::to_string(num_longest + num_wanted) +
            " tokens (" + std::to_string(num_longest) + " in the prompt, " +
            std::to_string(num_wanted) + " in the completion).",
        is_chat ? "messages" : "prompt", "context_length_exceeded");
  }
  ticket_->correct(num_prompt_tokens +
                   num_choices_ * request_.max_tokens.value_or(kDefaultCompletionTokens));
  request_.max_tokens = num_wanted;
  return {};
}

int64_t Generation::default_max_tokens(int64_t num_left) const {
  num_left = std::max<int64_t>(num_left, 1);
  const auto of_model = context_.config.sampling.max_new_tokens;
  // Nobody asked for so many: what does not fit is no error, and min_tokens comes first.
  if (of_model) return std::min(std::max<int64_t>(*of_model, request_.min_tokens), num_left);
  return request_.is_chat ? num_left : kDefaultCompletionTokens;
}

void Generation::submit() {
  stop_token_ids_.assign(request_.stop_token_ids.begin(), request_.stop_token_ids.end());
  if (!request_.ignore_eos) {
    const auto& eos = context_.config.eos_token_ids;
    stop_token_ids_.insert(stop_token_ids_.end(), eos.begin(), eos.end());
  }
  choices_.resize(static_cast<size_t>(num_choices_));
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    choice.prompt_idx = static_cast<int32_t>(i / static_cast<size_t>(request_.n));
    choice.decoder.emplace(context_.tokenizer,
                           request_.skip_special_tokens ? IncrementalDecoder::SpecialTokens::kSkip
                                                        : IncrementalDecoder::SpecialTokens::kShow,
                           request_.is_chat ? IncrementalDecoder::FirstSpace::kDrop
                                            : IncrementalDecoder::FirstSpace::kKeep);
    choice.stop_matcher.emplace(request_.stop);
    const auto sequence =
        context_.engine.submit(engine_request(i), std::make_shared<Sink>(shared_from_this(), i));
    if (!sequence.ok()) return finish(sequence.status());
    choice.sequence = sequence.value();
  }
  AdmittedEvent admitted;
  for (const auto& prompt : prompts_) {
    admitted.prompt_tokens.push_back(static_cast<int32_t>(prompt.size()));
  }
  stream_->on_event(std::move(admitted));
}

SamplingParams Generation::sampling_params(size_t choice_idx) const {
  const SamplingDefaults& defaults = context_.config.sampling;
  const int64_t top_k = request_.top_k.value_or(defaults.top_k);
  SamplingParams sampling;
  sampling.temperature = static_cast<float>(request_.temperature.value_or(defaults.temperature));
  sampling.top_p = static_cast<float>(request_.top_p.value_or(defaults.top_p));
  sampling.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  sampling.min_p = static_cast<float>(request_.min_p.value_or(defaults.min_p));
  sampling.repetition_penalty =
      static_cast<float>(request_.repetition_penalty.value_or(defaults.repetition_penalty));
  sampling.presence_penalty = static_cast<float>(request_.presence_penalty);
  sampling.frequency_penalty = static_cast<float>(request_.frequency_penalty);
  // Choices of one request differ: choice i draws from seed + i.
  if (request_.seed) sampling.seed = static_cast<uint64_t>(*request_.seed) + choice_idx;
  for (const auto& [token, bias] : request_.logit_bias) {
    sampling.logit_bias.emplace_back(static_cast<TokenId>(token), static_cast<float>(bias));
  }
  sampling.num_top_logprobs = static_cast<int32_t>(request_.top_logprobs.value_or(-1));
  return sampling;
}

EngineRequest Generation::engine_request(size_t choice_idx) {
  const auto prompt_idx = static_cast<size_t>(choices_[choice_idx].prompt_idx);
  EngineRequest engine;
  engine.request_id = request_.request_id;
  engine.prompt = prompts_[prompt_idx];
  engine.max_new_tokens = static_cast<int32_t>(*request_.max_tokens);
  engine.min_new_tokens = static_cast<int32_t>(request_.min_tokens);
  engine.stop_token_ids = stop_token_ids_;
  engine.sampling = sampling_params(choice_idx);
  if (request_.attention_mode == "full") engine.attention.mode = AttentionMode::kFull;
  if (request_.attention_mode == "moba") engine.attention.mode = AttentionMode::kMoba;
  if (request_.attention_top_k) {
    engine.attention.top_k = static_cast<int32_t>(*request_.attention_top_k);
  }
  engine.priority = static_cast<int32_t>(request_.priority);
  // Keys never share blocks: a hit would tell one caller what another has asked.
  engine.cache_salt = request_.api_key_id + '\x1f' + request_.cache_salt;
  engine.wants_progress = request_.wants_progress;
  const std::optional<double> timeout =
      request_.timeout_seconds ? request_.timeout_seconds : context_.config.default_timeout_seconds;
  if (timeout) {
    engine.deadline = received_at_ + std::chrono::duration_cast<Clock::TimePoint::duration>(
                                         std::chrono::duration<double>(*timeout));
  }
  if (choice_idx == 0) engine.queue_ticket = std::move(ticket_);
  return engine;
}

void Generation::on_engine_event(size_t choice_idx, EngineEvent event) {
  if (auto* finished = std::get_if<FinishEvent>(&event)) return on_finish(choice_idx, *finished);
  if (is_done_ || choices_[choice_idx].stopped) return;
  if (auto* queued = std::get_if<QueuedEvent>(&event)) return on_queued(choice_idx, *queued);
  if (auto* progress = std::get_if<ProgressEvent>(&event))
    return on_progress(choice_idx, *progress);
  on_token(choice_idx, std::get<TokenEvent>(std::move(event)));
}

void Generation::on_queued(size_t choice_idx, const QueuedEvent& event) {
  if (!request_.wants_progress) return;
  const auto& prompt = prompts_[static_cast<size_t>(choices_[choice_idx].prompt_idx)];
  stream_->on_event(PrefillProgressEvent{.choice = static_cast<int32_t>(choice_idx),
                                         .processed = 0,
                                         .total = static_cast<int64_t>(prompt.size()),
                                         .cached = 0,
                                         .eta_ms = 0,
                                         .queue_position = event.position});
}

void Generation::on_progress(size_t choice_idx, const ProgressEvent& event) {
  Choice& choice = choices_[choice_idx];
  const Clock::TimePoint now = context_.clock.now();
  if (choice.prefill_started_at == Clock::TimePoint{}) {
    choice.prefill_started_at = now;
    choice.prefill_start = event.processed;
  }
  const double seconds = seconds_between(choice.prefill_started_at, now);
  const int64_t num_done = event.processed - choice.prefill_start;
  const double eta_seconds =
      num_done > 0 ? seconds * (event.total - event.processed) / static_cast<double>(num_done) : 0;
  stream_->on_event(PrefillProgressEvent{.choice = static_cast<int32_t>(choice_idx),
                                         .processed = event.processed,
                                         .total = event.total,
                                         .cached = event.cached,
                                         .eta_ms = static_cast<int64_t>(eta_seconds * 1000),
                                         .queue_position = 0});
}

void Generation::on_token(size_t choice_idx, TokenEvent event) {
  Choice& choice = choices_[choice_idx];
  ++choice.num_tokens;
  if (!first_token_at_) first_token_at_ = context_.clock.now();
  DeltaEvent delta{
      .choice = static_cast<int32_t>(choice_idx), .text = {}, .logprobs = {}, .token_ids = {}};
  if (request_.echo && !choice.has_text) {
    delta.text = echo_text(static_cast<size_t>(choice.prompt_idx));
  }
  choice.has_text = true;
  if (!is_stop_token(event.token)) {
    StopMatcher::Output output = choice.stop_matcher->push(choice.decoder->push(event.token));
    delta.text += output.text;
    choice.stopped = output.stopped;
    if (request_.top_logprobs) {
      TokenLogprobText chosen = logprob_text({event.token, event.logprob});
      for (const TokenLogprob& entry : event.top_logprobs)
        chosen.top.push_back(logprob_text(entry));
      delta.logprobs.push_back(std::move(chosen));
    }
  }
  if (request_.return_token_ids) delta.token_ids.push_back(event.token);
  if (!delta.text.empty() || !delta.logprobs.empty() || !delta.token_ids.empty()) {
    stream_->on_event(std::move(delta));
  }
  if (choice.stopped) context_.engine.cancel(*choice.sequence);
}

void Generation::on_finish(size_t choice_idx, const FinishEvent& event) {
  Choice& choice = choices_[choice_idx];
  choice.usage = event.usage;
  if (is_done_ || choice.finished) return;
  if (choice.stopped) return finish_choice(choice_idx, FinishReason::kStop);
  if (!event.status.ok()) return finish(event.status);
  DeltaEvent rest{
      .choice = static_cast<int32_t>(choice_idx), .text = {}, .logprobs = {}, .token_ids = {}};
  StopMatcher::Output output = choice.stop_matcher->push(choice.decoder->flush());
  rest.text = output.text;
  if (!output.stopped) rest.text += choice.stop_matcher->flush();
  if (!rest.text.empty()) stream_->on_event(std::move(rest));
  finish_choice(choice_idx, output.stopped ? FinishReason::kStop : event.reason);
}

void Generation::finish_choice(size_t choice_idx, FinishReason reason) {
  choices_[choice_idx].finished = true;
  last_reason_ = reason;
  stream_->on_event(ChoiceFinishedEvent{static_cast<int32_t>(choice_idx), reason});
  if (++num_finished_ == choices_.size()) finish({});
}

bool Generation::is_stop_token(TokenId token) const {
  return std::ranges::find(stop_token_ids_, token) != stop_token_ids_.end();
}

std::string Generation::echo_text(size_t prompt_idx) const {
  if (const auto* text = std::get_if<GenerateRequest::TextInput>(&request_.input)) {
    return text->prompts.at(prompt_idx);
  }
  return context_.tokenizer.decode(prompts_[prompt_idx], request_.skip_special_tokens);
}

TokenLogprobText Generation::logprob_text(const TokenLogprob& entry) const {
  TokenLogprobText result{
      .token_id = entry.token, .token_bytes = {}, .logprob = entry.logprob, .top = {}};
  if (context_.tokenizer.is_special(entry.token)) {
    result.token_bytes = context_.tokenizer.piece_name(entry.token);
  } else {
    context_.tokenizer.append_piece(entry.token, result.token_bytes);
  }
  return result;
}

void Generation::finish(Status status) {
  if (is_done_) return;
  is_done_ = true;
  ticket_.reset();
  for (const Choice& choice : choices_) {
    if (choice.sequence && !choice.finished) context_.engine.cancel(*choice.sequence);
  }
  log_finish(status);
  DoneEvent done{.status = status, .usage = total_usage(), .retry_after_seconds = std::nullopt};
  if (status.code() == StatusCode::kResourceExhausted) {
    done.retry_after_seconds = retry_after_seconds();
  } else if (status.code() == StatusCode::kUnavailable) {
    done.retry_after_seconds = kDrainRetrySeconds;
  }
  stream_->on_event(std::move(done));
}

Usage Generation::total_usage() const {
  Usage total;
  for (const auto& prompt : prompts_) total.prompt_tokens += static_cast<int64_t>(prompt.size());
  for (size_t i = 0; i < choices_.size(); ++i) {
    const SequenceUsage& usage = choices_[i].usage;
    const bool is_first_of_prompt = i % static_cast<size_t>(request_.n) == 0;
    if (is_first_of_prompt) total.cached_tokens += usage.cached_tokens;
    total.completion_tokens += choices_[i].num_tokens;
    total.blocks_attended += usage.blocks_attended;
    total.blocks_available += usage.blocks_available;
    total.queue_seconds = std::max(total.queue_seconds, usage.queue_seconds);
    total.prefill_seconds = std::max(total.prefill_seconds, usage.prefill_seconds);
    total.decode_seconds = std::max(total.decode_seconds, usage.decode_seconds);
  }
  return total;
}

double Generation::retry_after_seconds() const {
  const double busy_seconds = context_.metrics.step_seconds.sum();
  const auto num_done = static_cast<double>(context_.metrics.prefill_tokens.value());
  const double tokens_per_second = busy_seconds > 0 && num_done > 0 ? num_done / busy_seconds : 1e4;
  const auto num_queued = static_cast<double>(context_.queue_gate.num_tokens());
  return std::clamp(num_queued / tokens_per_second, kMinRetrySeconds, kMaxRetrySeconds);
}

void Generation::log_finish(const Status& status) const {
  const Usage usage = total_usage();
  const Clock::TimePoint now = context_.clock.now();
  const double ttft = first_token_at_ ? seconds_between(received_at_, *first_token_at_) : 0;
  spdlog::info(
      "finished request={} status={} reason={} choices={} prompt_tokens={} cached_tokens={} "
      "completion_tokens={} ttft_s={:.3f} total_s={:.3f}",
      request_.request_id, static_cast<int>(status.code()),
      status.ok() ? reason_name(last_reason_) : "refused_or_failed", num_choices_,
      usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, ttft,
      seconds_between(received_at_, now));
}

}  // namespace quire
