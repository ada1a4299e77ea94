// A model with longrope through the whole engine: a sequence has the short factors up to a limit,
// and from the token that makes it longer on it is, in every bit, the sequence that a prompt of
// those tokens would be: however it is cut, who runs beside it, what is cached, and though it was
// preempted.

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/model_runner.h"
#include "models/model.h"
#include "tests/engine/engine_rig.h"
#include "tests/models/model_folder.h"
#include "tests/support/backends.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;
constexpr int32_t kSwitchLen = 22;  // inside of a block
constexpr int32_t kMaxModelLen = 64;
constexpr int32_t kNumBlocks = 128;
constexpr int32_t kMaxSeqs = 4;
constexpr std::string_view kLongFactors = "[3, 4.5, 2, 6]";
constexpr std::string_view kShortFactors = "[1, 1.25, 1.5, 2]";

/// A tiny Llama with longrope on one backend; engines come and go.
class LongRopeModel {
 public:
  LongRopeModel(const std::string& spec, std::string_view long_factors)
      : backend_(test::make_test_backend(spec)),
        model_(load(*backend_, long_factors)),
        storage_(*backend_, {.num_layers = model_->config().num_layers,
                             .num_blocks = kNumBlocks,
                             .num_kv_heads = model_->config().num_kv_heads,
                             .block_size = kBlockSize,
                             .head_dim = model_->config().head_dim}) {}

  Backend& backend() { return *backend_; }
  Model& model() { return *model_; }
  const KvStorage& storage() const { return storage_; }

 private:
  static std::unique_ptr<Model> load(Backend& backend, std::string_view long_factors) {
    const test::TemporaryFolder folder;
    folder.write(
        "config.json",
        test::tiny_config(R"(, "original_max_position_embeddings": )" + std::to_string(kSwitchLen) +
                          R"(, "rope_scaling": {"type": "longrope", "short_factor": )" +
                          std::string(kShortFactors) + R"(, "long_factor": )" +
                          std::string(long_factors) + "}"));
    folder.write("model.safetensors", test::safetensors_bytes(test::tiny_tensors()));
    const MobaConfig moba{.block_size = kBlockSize, .top_k = 2};
    return load_model(folder.path(), backend, &moba, WeightFormat::kOriginal,
                      {.max_model_len = kMaxModelLen});
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  KvStorage storage_;
};

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  SequenceUsage usage;
};

void check_same_bits(const Answer& actual, const Answer& expected) {
  CHECK(actual.tokens == expected.tokens);
  REQUIRE(actual.logprobs.size() == expected.logprobs.size());
  CHECK(std::memcmp(actual.logprobs.data(), expected.logprobs.data(),
                    actual.logprobs.size() * sizeof(float)) == 0);
}

struct Ask {
  std::vector<TokenId> prompt;
  int32_t max_new_tokens = 0;
};

/// One engine, turned by hand.
class Run {
 public:
  Run(LongRopeModel& machine, int32_t max_step_tokens, int32_t num_blocks = kNumBlocks)
      : runner_(machine.backend(), machine.model(), machine.storage(),
                {.max_tokens = max_step_tokens, .max_logit_rows = kMaxSeqs, .max_top_k = 2}) {
    EngineConfig config;
    config.moba = *machine.model().config().moba;
    config.num_layers = machine.model().config().num_layers;
    config.vocab_size = test::kTinyVocab;
    config.max_model_len = kMaxModelLen;
    config.rope_switch_len = machine.model().rope_switch_len();
    config.num_blocks = num_blocks;
    config.max_num_seqs = kMaxSeqs;
    config.max_step_tokens = max_step_tokens;
    config.max_top_k = 2;
    engine_ = std::make_unique<Engine>(config, runner_, clock_, metrics_);
  }

  std::vector<Answer> answer(const std::vector<Ask>& asks) {
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const Ask& ask : asks) {
      EngineRequest request;
      request.prompt = ask.prompt;
      request.max_new_tokens = ask.max_new_tokens;
      request.sampling.temperature = 0;
      request.sampling.num_top_logprobs = 1;
      sinks.push_back(std::make_shared<RecordingSink>());
      REQUIRE(engine_->submit(std::move(request), sinks.back()).ok());
    }
    while (engine_->step()) {
    }
    std::vector<Answer> answers;
    for (const auto& sink : sinks) {
      REQUIRE(sink->finish().status.ok());
      answers.push_back({sink->tokens(), {}, sink->finish().usage});
      for (const TokenEvent& event : sink->all<TokenEvent>()) {
        answers.back().logprobs.push_back(event.logprob);
      }
    }
    return answers;
  }
  Answer answer(const Ask& ask) { return answer(std::vector{ask}).front(); }

 private:
  ManualClock clock_;
  EngineMetrics metrics_;
  ModelRunner runner_;
  std::unique_ptr<Engine> engine_;
};

std::vector<TokenId> prompt_of(int32_t num_tokens, int32_t first) {
  std::vector<TokenId> prompt;
  for (int32_t i = 0; i < num_tokens; ++i) prompt.push_back((i * i + 5 * i + first) % 24);
  return prompt;
}

/// Each token sampled behind a prompt of all before it, by an engine that knows of nothing else.
Answer answer_of_fresh_prompts(LongRopeModel& machine, const Ask& ask) {
  Answer answer;
  Ask next{ask.prompt, 1};
  for (int32_t i = 0; i < ask.max_new_tokens; ++i) {
    const Answer one = Run(machine, kMaxModelLen).answer(next);
    answer.tokens.push_back(one.tokens.at(0));
    answer.logprobs.push_back(one.logprobs.at(0));
    next.prompt.push_back(one.tokens.at(0));
  }
  return answer;
}

/// Both sides of the limit, on it, and across it early, late and with the first token.
std::vector<Ask> asks_around_the_limit() {
  return {{prompt_of(15, 1), 20},
          {prompt_of(kSwitchLen, 2), 6},
          {prompt_of(kSwitchLen + 1, 3), 6},
          {prompt_of(15, 4), kSwitchLen - 15 + 1},
          {prompt_of(3, 5), 30}};
}

TEST_CASE("A sequence that outgrows the short factors is the fresh prompt of its tokens") {
  const std::string spec = GENERATE(from_range(test::kernel_backends()));
  CAPTURE(spec);
  LongRopeModel machine(spec, kLongFactors);
  for (const Ask& ask : asks_around_the_limit()) {
    CAPTURE(ask.prompt.size());
    const Answer expected = answer_of_fresh_prompts(machine, ask);
    const Answer actual = Run(machine, kMaxModelLen).answer(ask);
    check_same_bits(actual, expected);
    CHECK(actual.usage.num_preemptions == 0);
  }
}

TEST_CASE("Chunks, batches, prefix hits and preemption change no bit across the limit") {
  const std::string spec = GENERATE(from_range(test::kernel_backends()));
  CAPTURE(spec);
  LongRopeModel machine(spec, kLongFactors);
  const std::vector<Ask> asks = asks_around_the_limit();
  std::vector<Answer> expected;
  for (const Ask& ask : asks) expected.push_back(Run(machine, kMaxModelLen).answer(ask));
  int32_t num_preemptions = 0;
  for (const int32_t max_step_tokens : {5, kMaxModelLen}) {
    for (const int32_t num_blocks : {kMaxModelLen / kBlockSize, kNumBlocks}) {
      Run run(machine, max_step_tokens, num_blocks);
      for (const bool is_cached : {false, true}) {
        CAPTURE(max_step_tokens, num_blocks, is_cached);
        const std::vector<Answer> answers = run.answer(asks);
        for (size_t i = 0; i < asks.size(); ++i) {
          CAPTURE(i);
          check_same_bits(answers[i], expected[i]);
          num_preemptions += answers[i].usage.num_preemptions;
          const bool finds_prompt = is_cached && num_blocks == kNumBlocks;
          if (finds_prompt && i < 4) CHECK(answers[i].usage.cached_tokens > 0);
        }
      }
    }
  }
  CHECK(num_preemptions > 0);
}

TEST_CASE("The long factors count from the limit on, and not before") {
  const std::string spec = GENERATE(from_range(test::kernel_backends()));
  CAPTURE(spec);
  LongRopeModel machine(spec, kLongFactors), short_only(spec, kShortFactors);
  const Ask ask = asks_around_the_limit()[0];
  const Answer actual = Run(machine, kMaxModelLen).answer(ask);
  const Answer other = Run(short_only, kMaxModelLen).answer(ask);
  // The token behind a prompt of kSwitchLen tokens is the last one of the short factors.
  const auto num_short = static_cast<size_t>(kSwitchLen) - ask.prompt.size() + 1;
  for (size_t i = 0; i < num_short; ++i) CHECK(actual.logprobs[i] == other.logprobs[i]);
  CHECK(actual.logprobs[num_short] != other.logprobs[num_short]);
}

}  // namespace
}  // namespace quire
