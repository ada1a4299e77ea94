// The headline claim, end to end on the bundled model: sparsity costs no other feature. How a
// prompt is cut into chunks, who else is in the batch, what the prefix cache knows already, whether
// a sequence was preempted half-way: none of it changes the last bit of a logprob, and so no token,
// greedy or sampled.
//
// Backends add in another order, which moves a logit by a few hundredths. No two of them can
// promise the same token where two candidates are that close, so across backends the promise is
// about greedy answers that the model is sure of: questions about a planted fact. The test holds
// them to a margin (kMinMargin) before it compares them. Sampled text, where some draw always falls
// near a border, is compared within a backend only.

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/model_runner.h"
#include "engine/text/tokenizer.h"
#include "kernels/backend_registry.h"
#include "models/model.h"
#include "tests/engine/engine_fakes.h"

namespace quire {
namespace {

const std::filesystem::path kModelDir = QUIRE_BUNDLED_MODEL;
constexpr int32_t kMaxModelLen = 1024;
constexpr int32_t kNumBlocks = 64;
constexpr int32_t kMaxSeqs = 8;
constexpr float kMinMargin = 2.0f;  // nats between a greedy token and the next best

/// What a test asks for; EngineRequest itself cannot be copied.
struct Ask {
  std::vector<TokenId> prompt;
  std::optional<uint64_t> seed;  // absent: greedy
  std::optional<int32_t> top_k;
  std::optional<AttentionMode> mode;
  int32_t max_new_tokens = 8;
  bool stops_at_end = true;  // of an answer
};

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  float smallest_margin = std::numeric_limits<float>::infinity();
  SequenceUsage usage;
};

/// A prompt ends with a question, whose answer the model is sure of, or in the middle of the text,
/// where sampling has many ways to go on.
enum class Ending { kQuestion, kOpen };

/// Lines of a ledger with one fact in it, and the question about that fact.
class PromptWriter {
 public:
  PromptWriter() : tokenizer_(load_tokenizer(kModelDir, 1)) {}

  std::vector<TokenId> write(int index, int num_lines, Ending ending) const {
    static constexpr std::array kThings{"letters", "lamps", "crates", "ropes", "maps", "coins"};
    static constexpr std::array kAttributes{"access code", "room number", "budget"};
    const std::string subject = std::string(kAttributes[static_cast<size_t>(index % 3)]) +
                                " of the " + std::string(1, static_cast<char>('B' + index)) +
                                "rano library";
    std::string document;
    for (int line = 0; line < num_lines; ++line) {
      if (line == num_lines / 3) {
        document += "The " + subject + " is " + std::to_string(4711 + 1009 * index) + ".\n";
      }
      const auto pick = static_cast<size_t>(line * line + 5 * index);
      document += "Then " + std::to_string(2 + (line * 7 + index) % 40) + " " + kThings[pick % 6] +
                  " were moved from the cellar to the " + (line % 2 == 0 ? "north" : "south") +
                  " tower, with the " + kThings[(pick + 2) % 6] + ".\n";
    }
    std::vector<TokenId> prompt{*tokenizer_->bos()};
    append(document, prompt);
    if (ending == Ending::kOpen) return prompt;
    prompt.push_back(*tokenizer_->special_token("<|user|>"));
    append("What is the " + subject + "?", prompt);
    prompt.push_back(*tokenizer_->special_token("<|assistant|>"));
    return prompt;
  }
  std::string read(const std::vector<TokenId>& tokens) const {
    return tokenizer_->decode(tokens, false);
  }

 private:
  void append(const std::string& text, std::vector<TokenId>& prompt) const {
    const std::vector<TokenId> ids = tokenizer_->encode(text);
    prompt.insert(prompt.end(), ids.begin(), ids.end());
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

/// What a server may be started with that changes the numbers.
struct Variant {
  DType kv_dtype = DType::kBF16;
  SelectionSchedule schedule = {};
  WeightFormat weights = WeightFormat::kOriginal;
  BlockDigest digest = BlockDigest::kMean;

  bool is_default() const {
    return kv_dtype == DType::kBF16 && schedule.num_stages == 0 &&
           weights == WeightFormat::kOriginal && digest == BlockDigest::kMean;
  }
  std::string name() const {
    return std::string(dtype_name(kv_dtype)) + " cache, schedule " + schedule_text(schedule) +
           ", digest " + std::string(digest_name(digest)) +
           (weights == WeightFormat::kInt8 ? ", int8 weights" : "");
  }
};

/// Units of two, four and eight blocks, from positions inside of blocks and units on. The question
/// of the longest prompt sees all of it, or the model would not be sure of its answer.
Variant scheduled() {
  return {.kv_dtype = DType::kI8,
          .schedule = parse_selection_schedule("140:2:4,400:4:2,560:8:2", "the test"),
          .weights = WeightFormat::kOriginal};
}

std::vector<Variant> all_variants() {
  return {Variant{},
          {.kv_dtype = DType::kI8, .schedule = {}, .weights = WeightFormat::kOriginal},
          scheduled(),
          {.kv_dtype = DType::kBF16, .schedule = {}, .weights = WeightFormat::kInt8},
          {.digest = BlockDigest::kBounds},
          {.digest = BlockDigest::kCuboidMean},
          {.kv_dtype = DType::kI8, .digest = BlockDigest::kCuboidMean}};
}

/// One backend with the bundled model on it; engines come and go.
class Machine {
 public:
  Machine(const std::string& spec, const Variant& variant)
      : backend_(make_backend(spec, {.num_threads = 2})),
        model_(load(*backend_, variant)),
        storage_(*backend_, shape_of(model_->config(), variant)) {}

  const ModelConfig& model_config() const { return model_->config(); }

  static std::unique_ptr<Model> load(Backend& backend, const Variant& variant) {
    MobaConfig moba = *load_model_config(kModelDir).moba;
    moba.schedule = variant.schedule;
    moba.digest = variant.digest;
    return load_model(kModelDir, backend, &moba, variant.weights);
  }

  static KvStorage::Shape shape_of(const ModelConfig& config, const Variant& variant) {
    return {.num_layers = config.num_layers,
            .num_blocks = kNumBlocks,
            .num_kv_heads = config.num_kv_heads,
            .block_size = config.moba->block_size,
            .head_dim = config.head_dim,
            .num_stages = config.moba->schedule.num_stages,
            .dtype = variant.kv_dtype,
            .digest = variant.digest};
  }

  /// A cache full of NaN: whoever reads what this sequence did not write is found out. Integers
  /// have none, but their scales do.
  void poison() {
    for (const PagedKvView& layer : storage_.layers()) {
      for (const TensorView& tensor : {layer.k, layer.v, layer.centroids, layer.unit_centroids,
                                       layer.k_scales, layer.v_scales}) {
        if (tensor.data == nullptr || tensor.dtype != DType::kBF16) continue;
        const std::vector<BFloat16> nans(static_cast<size_t>(tensor.num_elements()),
                                         to_bfloat16(std::numeric_limits<float>::quiet_NaN()));
        backend_->upload(std::as_bytes(std::span(nans)), tensor.data);
      }
    }
  }

  Backend& backend() { return *backend_; }
  Model& model() { return *model_; }
  const KvStorage& storage() const { return storage_; }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  KvStorage storage_;
};

/// One engine on a machine, over a poisoned cache.
class Run {
 public:
  Run(Machine& machine, int32_t max_step_tokens, int32_t num_blocks = kNumBlocks)
      : machine_(machine),
        runner_(machine.backend(), machine.model(), machine.storage(),
                {.max_tokens = max_step_tokens, .max_logit_rows = kMaxSeqs, .max_top_k = 8}) {
    machine.poison();
    EngineConfig config;
    config.moba = *machine.model_config().moba;
    config.num_layers = machine.model_config().num_layers;
    config.vocab_size = machine.model_config().vocab_size;
    config.max_model_len = std::min(kMaxModelLen, num_blocks * config.moba.block_size);
    config.num_blocks = num_blocks;
    config.max_num_seqs = kMaxSeqs;
    config.max_step_tokens = max_step_tokens;
    engine_ = std::make_unique<Engine>(config, runner_, clock_, metrics_);
  }

  std::vector<Answer> answer(const std::vector<Ask>& asks) {
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (const Ask& ask : asks) {
      sinks.push_back(std::make_shared<RecordingSink>());
      REQUIRE(engine_->submit(make_request(ask), sinks.back()).ok());
    }
    while (engine_->step()) {
    }
    std::vector<Answer> answers;
    for (const auto& sink : sinks) {
      REQUIRE(sink->is_finished());
      REQUIRE(sink->finish().status.ok());
      Answer answer;
      answer.tokens = sink->tokens();
      answer.usage = sink->finish().usage;
      for (const TokenEvent& event : sink->all<TokenEvent>()) {
        answer.logprobs.push_back(event.logprob);
        REQUIRE(event.top_logprobs.size() == 2);
        answer.smallest_margin = std::min(
            answer.smallest_margin, event.top_logprobs[0].logprob - event.top_logprobs[1].logprob);
      }
      answers.push_back(std::move(answer));
    }
    return answers;
  }

 private:
  EngineRequest make_request(const Ask& ask) const {
    EngineRequest request;
    request.prompt = ask.prompt;
    request.max_new_tokens = ask.max_new_tokens;
    if (ask.stops_at_end) request.stop_token_ids = machine_.model_config().eos_token_ids;
    request.attention = {.mode = ask.mode, .top_k = ask.top_k};
    request.sampling.temperature = ask.seed ? 0.9f : 0.0f;
    request.sampling.seed = ask.seed;
    request.sampling.num_top_logprobs = 2;
    return request;
  }

  Machine& machine_;
  SteadyClock clock_;
  EngineMetrics metrics_;
  ModelRunner runner_;
  std::unique_ptr<Engine> engine_;
};

void check_same_tokens(const Answer& actual, const Answer& expected) {
  CHECK(actual.tokens == expected.tokens);
}

void check_same_bits(const Answer& actual, const Answer& expected) {
  CHECK(actual.tokens == expected.tokens);
  REQUIRE(actual.logprobs.size() == expected.logprobs.size());
  CHECK(std::memcmp(actual.logprobs.data(), expected.logprobs.data(),
                    actual.logprobs.size() * sizeof(float)) == 0);
}

/// A long greedy question and a sampled text, both sparse, and six companions of another length
/// each. Even ones are greedy.
std::vector<Ask> eight_asks(const PromptWriter& writer) {
  const auto greedy = [&](int index, int num_lines, std::optional<int32_t> top_k) {
    return Ask{.prompt = writer.write(index, num_lines, Ending::kQuestion),
               .seed = std::nullopt,
               .top_k = top_k,
               .mode = std::nullopt};
  };
  const auto sampled = [&](int index, int num_lines, int32_t top_k) {
    return Ask{.prompt = writer.write(index, num_lines, Ending::kOpen),
               .seed = 11 + index,
               .top_k = top_k,
               .mode = std::nullopt};
  };
  std::vector<Ask> asks{greedy(0, 24, std::nullopt),
                        sampled(1, 5, 2),
                        greedy(2, 2, 2),
                        sampled(3, 2, 1),
                        greedy(4, 2, 2),
                        sampled(5, 1, 2),
                        greedy(6, 3, 2),
                        sampled(7, 1, 1)};
  asks[0].max_new_tokens = 24;  // the whole answer
  return asks;
}

/// How a run is set up; every one is run cold and then with everything in the prefix cache.
struct Cell {
  int32_t max_step_tokens;
  std::vector<size_t> batch;  // which asks
};

constexpr int32_t kWhole = 2048;  // more than all eight prompts together

/// Enough to tell that nothing about the cache's dtype depends on chunks or batches.
std::vector<Cell> some_cells() {
  return {{kWhole, {0, 1, 2, 3, 4, 5, 6, 7}}, {64, {0, 1, 2, 3, 4, 5, 6, 7}}, {512, {1}}};
}

std::vector<Cell> all_cells() {
  std::vector<Cell> cells;
  for (const int32_t max_step_tokens : {kWhole, 512, 64}) {
    cells.push_back({max_step_tokens, {0, 1, 2, 3, 4, 5, 6, 7}});
    for (size_t alone = 0; alone < 3; ++alone) cells.push_back({max_step_tokens, {alone}});
  }
  return cells;
}

/// The backends of this machine.
std::vector<std::string> available_specs() {
  std::vector<std::string> specs{"reference"};  // the others are compared with it
  for (const BackendInfo& info : list_backends()) {
    if (info.available && info.spec != "reference") specs.push_back(info.spec);
  }
  return specs;
}

}  // namespace

TEST_CASE("Chunks, batches, prefix hits and backends change no token", "[invariance]") {
  const Variant variant = GENERATE(from_range(all_variants()));
  CAPTURE(variant.name());
  const PromptWriter writer;
  const std::vector<Ask> asks = eight_asks(writer);
  std::vector<Answer> expected;  // by the reference
  for (const std::string& spec : available_specs()) {
    Machine machine(spec, variant);
    std::vector<Answer> first;  // by this backend
    for (const Cell& cell : variant.is_default() ? all_cells() : some_cells()) {
      std::vector<Ask> batch_asks;
      for (const size_t i : cell.batch) batch_asks.push_back(asks[i]);
      Run run(machine, cell.max_step_tokens);
      for (const bool expects_hit : {false, true}) {
        const std::vector<Answer> answers = run.answer(batch_asks);
        if (first.empty()) first = answers;
        if (expected.empty()) expected = answers;
        for (size_t k = 0; k < cell.batch.size(); ++k) {
          const size_t i = cell.batch[k];
          CAPTURE(spec, cell.max_step_tokens, cell.batch.size(), expects_hit, i);
          check_same_bits(answers[k], first[i]);
          if (!asks[i].seed) check_same_tokens(answers[k], expected[i]);
          const auto num_prompt = static_cast<int32_t>(asks[i].prompt.size());
          CHECK(answers[k].usage.cached_tokens == (expects_hit ? (num_prompt - 1) / 64 * 64 : 0));
        }
      }
    }
  }
  for (const size_t i : {0, 2, 4, 6}) CHECK(expected[i].smallest_margin > kMinMargin);
  // Sparse, or there would be nothing to vary.
  for (const size_t i : {0, 1}) {
    CHECK(expected[i].usage.blocks_attended < expected[i].usage.blocks_available);
  }
  CHECK(writer.read(expected[0].tokens) == "The access code of the Brano library is 4711.<|end|>");
}

TEST_CASE("Preemption and recomputation change no token", "[invariance]") {
  const Variant variant = GENERATE(from_range(all_variants()));
  CAPTURE(variant.name());
  const PromptWriter writer;
  std::vector<Ask> asks;
  for (int i = 1; i < 4; ++i) {
    asks.push_back({.prompt = writer.write(i, 8, Ending::kOpen),
                    .seed = i == 2 ? std::optional<uint64_t>(5) : std::nullopt,
                    .top_k = 2,
                    .mode = std::nullopt,
                    .max_new_tokens = 60,
                    .stops_at_end = false});
    // Two blocks each, and three in the end: nine, whatever the tokenizer makes of the text.
    REQUIRE(asks.back().prompt.size() > 96);
    asks.back().prompt.resize(96);
  }
  for (const std::string& spec : available_specs()) {
    CAPTURE(spec);
    Machine machine(spec, variant);
    const std::vector<Answer> expected = Run(machine, 64).answer(asks);
    const std::vector<Answer> actual = Run(machine, 64, /*num_blocks=*/8).answer(asks);
    int32_t num_preemptions = 0;
    for (size_t i = 0; i < asks.size(); ++i) {
      CAPTURE(i);
      check_same_tokens(actual[i], expected[i]);
      num_preemptions += actual[i].usage.num_preemptions;
    }
    CHECK(num_preemptions > 0);
  }
}

TEST_CASE("Full attention keeps its tokens among MoBA sequences", "[invariance]") {
  const Variant variant = GENERATE(from_range(all_variants()));
  CAPTURE(variant.name());
  const PromptWriter writer;
  const auto ask = [&](int index, AttentionMode mode, int32_t top_k) {
    return Ask{.prompt = writer.write(index, 8, Ending::kQuestion),
               .seed = std::nullopt,
               .top_k = top_k,
               .mode = mode,
               .max_new_tokens = 10};
  };
  const std::vector<Ask> asks{ask(0, AttentionMode::kFull, 1), ask(0, AttentionMode::kMoba, 3),
                              ask(1, AttentionMode::kFull, 1), ask(1, AttentionMode::kMoba, 8)};
  std::vector<Answer> expected;
  for (const std::string& spec : available_specs()) {
    Machine machine(spec, variant);
    std::vector<Answer> alone;
    for (const Ask& one : asks) alone.push_back(Run(machine, 1024).answer({one}).front());
    if (expected.empty()) expected = alone;
    Run run(machine, 64);
    for (const bool expects_hit : {false, true}) {
      const std::vector<Answer> answers = run.answer(asks);
      for (size_t i = 0; i < asks.size(); ++i) {
        CAPTURE(spec, expects_hit, i);
        check_same_bits(answers[i], alone[i]);
        check_same_tokens(answers[i], expected[i]);
      }
    }
    CAPTURE(spec);
    if (variant.schedule.num_stages == 0) {  // whose units would be all of so short a prompt
      CHECK(alone[0].logprobs != alone[1].logprobs);  // full and sparse are two models
    }
    check_same_tokens(alone[3], alone[2]);  // all blocks selected: they are one
  }
  for (const Answer& answer : expected) CHECK(answer.smallest_margin > kMinMargin);
}

}  // namespace quire
