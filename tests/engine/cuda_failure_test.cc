// What a failure of the CUDA runtime does to requests: real model, real runner, real backend, on
// the emulated device, whose runtime can be told to fail.

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_storage.h"
#include "engine/runner/model_runner.h"
#include "kernels/backend_registry.h"
#include "models/model.h"
#include "tests/cuda_emulator/emulator.h"
#include "tests/engine/engine_rig.h"
#include "tests/models/model_folder.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;
constexpr int32_t kNumBlocks = 32;

const std::vector<TokenId> kPrompt{3, 9, 14, 7, 7, 20, 11, 5, 16, 8, 19};
const std::vector<TokenId> kOtherPrompt{6, 1, 17, 12, 12};

std::unique_ptr<Model> load_tiny(Backend& backend) {
  const test::TemporaryFolder folder;
  folder.write("config.json", test::tiny_config());
  folder.write("model.safetensors", test::safetensors_bytes(test::tiny_tensors()));
  const MobaConfig moba = small_engine_config().moba;
  return load_model(folder.path(), backend, &moba);
}

/// A tiny Llama on cuda:0 and an engine, turned by hand, that runs one request at a time.
struct CudaRig {
  explicit CudaRig(bool decode_graphs = true)
      : backend(make_backend("cuda:0", {.decode_graphs = decode_graphs})) {
    EngineConfig config = small_engine_config();
    config.vocab_size = test::kTinyVocab;
    config.num_layers = model->config().num_layers;
    config.max_num_seqs = 1;
    engine = std::make_unique<Engine>(config, runner, clock, metrics);
  }

  std::shared_ptr<RecordingSink> submit(std::vector<TokenId> prompt) {
    EngineRequest request;
    request.prompt = std::move(prompt);
    request.max_new_tokens = 6;
    request.sampling.temperature = 0;
    auto sink = std::make_shared<RecordingSink>();
    REQUIRE(engine->submit(std::move(request), sink).ok());
    return sink;
  }
  /// Submits a prompt that is alone, and stops behind the step that gives its first token.
  std::shared_ptr<RecordingSink> submit_until_token(std::vector<TokenId> prompt) {
    auto sink = submit(std::move(prompt));
    step_until_token(*sink);
    return sink;
  }
  void step_until_token(const RecordingSink& sink) {
    while (sink.tokens().empty()) engine->step();
  }
  void run_until_idle() {
    while (engine->step()) {
    }
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model = load_tiny(*backend);
  KvStorage storage{*backend,
                    {.num_layers = model->config().num_layers,
                     .num_blocks = kNumBlocks,
                     .num_kv_heads = model->config().num_kv_heads,
                     .block_size = kBlockSize,
                     .head_dim = model->config().head_dim}};
  ModelRunner runner{
      *backend, *model, storage, {.max_tokens = 8, .max_logit_rows = 4, .max_top_k = 4}};
  ManualClock clock;
  EngineMetrics metrics;
  std::unique_ptr<Engine> engine;
};

}  // namespace

TEST_CASE("A failure of the CUDA runtime fails its step's request, and the engine goes on") {
  // Every call that a step makes, at its first step (the prompt) or at a later one (a token).
  const std::string function =
      GENERATE("launch", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaStreamSynchronize");
  const bool in_prompt = GENERATE(true, false);
  CAPTURE(function, in_prompt);
  CudaRig rig;
  const auto expected = rig.submit(kPrompt), expected_other = rig.submit(kOtherPrompt);
  rig.run_until_idle();
  check_finished_once(*expected, FinishReason::kLength, StatusCode::kOk);

  // A prompt of its own, so that nothing of it is in the prefix cache.
  const std::vector<TokenId> unlucky_prompt(kPrompt.rbegin(), kPrompt.rend());
  const auto unlucky = rig.submit(unlucky_prompt), waiting = rig.submit(kOtherPrompt);
  if (!in_prompt) rig.step_until_token(*unlucky);
  emulator::fail_next(function.c_str());
  rig.run_until_idle();
  check_finished_once(*unlucky, FinishReason::kError, StatusCode::kInternal);
  CHECK(unlucky->tokens().size() == (in_prompt ? 0 : 1));
  check_finished_once(*waiting, FinishReason::kLength, StatusCode::kOk);
  CHECK(waiting->tokens() == expected_other->tokens());
  CHECK(rig.metrics.step_failures.value() == 1);
  CHECK(rig.engine->is_healthy());
  CHECK(rig.metrics.blocks_in_use.value() == 0);

  // What the failed step left behind is no part of anybody's answer: not of the same prompt, asked
  // again where nothing ever failed and here.
  CudaRig fresh;
  const auto never_failed = fresh.submit(unlucky_prompt), again = rig.submit(unlucky_prompt);
  fresh.run_until_idle();
  rig.run_until_idle();
  check_finished_once(*again, FinishReason::kLength, StatusCode::kOk);
  CHECK(again->tokens() == never_failed->tokens());
}

TEST_CASE("Decode steps are launched as graphs, and give the tokens of ops one by one") {
  CudaRig with_graphs, one_by_one(false);
  const emulator::GraphCounts before = emulator::graph_counts();
  const auto expected = one_by_one.submit(kPrompt);
  one_by_one.run_until_idle();
  CHECK(emulator::graph_counts().launched == before.launched);

  const auto actual = with_graphs.submit(kPrompt);
  with_graphs.run_until_idle();
  check_finished_once(*actual, FinishReason::kLength, StatusCode::kOk);
  CHECK(actual->tokens() == expected->tokens());
  // The first of six tokens is the prompt's; some of the other five steps seal a block.
  CHECK(emulator::graph_counts().launched - before.launched == 5);
  CHECK(emulator::graph_counts().instantiated - before.instantiated == 2);
}

TEST_CASE("A graph that fails fails its step's request, and the next request is answered") {
  const std::string function =
      GENERATE("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphLaunch");
  CAPTURE(function);
  CudaRig rig, fresh;
  const auto unlucky = rig.submit_until_token(kPrompt);
  emulator::fail_next(function.c_str());
  rig.run_until_idle();
  check_finished_once(*unlucky, FinishReason::kError, StatusCode::kInternal);
  const auto again = rig.submit(kPrompt), next = rig.submit(kOtherPrompt);
  const auto expected = fresh.submit(kPrompt), expected_next = fresh.submit(kOtherPrompt);
  rig.run_until_idle();
  fresh.run_until_idle();
  check_finished_once(*again, FinishReason::kLength, StatusCode::kOk);
  CHECK(again->tokens() == expected->tokens());
  CHECK(next->tokens() == expected_next->tokens());
  CHECK(rig.engine->is_healthy());
}

TEST_CASE("An executable that takes no update, or is made at the second try, launches the step") {
  const std::string function = GENERATE("cudaGraphExecUpdate", "cudaGraphInstantiate");
  CAPTURE(function);
  CudaRig rig, fresh;
  const auto first = rig.submit_until_token(kPrompt), expected = fresh.submit(kPrompt);
  emulator::fail_next(function.c_str());
  rig.run_until_idle();
  fresh.run_until_idle();
  check_finished_once(*first, FinishReason::kLength, StatusCode::kOk);
  CHECK(first->tokens() == expected->tokens());
}

TEST_CASE("Where no graph can be made executable, a step fails and later ones run op by op") {
  CudaRig rig, one_by_one(false);
  const auto unlucky = rig.submit_until_token(kPrompt);
  emulator::fail_next("cudaGraphInstantiate");
  emulator::fail_next("cudaGraphInstantiate");
  rig.run_until_idle();
  check_finished_once(*unlucky, FinishReason::kError, StatusCode::kInternal);
  const emulator::GraphCounts before = emulator::graph_counts();
  const auto again = rig.submit(kPrompt), expected = one_by_one.submit(kPrompt);
  rig.run_until_idle();
  one_by_one.run_until_idle();
  check_finished_once(*again, FinishReason::kLength, StatusCode::kOk);
  CHECK(again->tokens() == expected->tokens());
  CHECK(emulator::graph_counts().launched == before.launched);
  CHECK(rig.engine->is_healthy());
}

}  // namespace quire
