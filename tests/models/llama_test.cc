#include "models/llama.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/backend_registry.h"
#include "tests/models/model_driver.h"
#include "tests/models/model_folder.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;
using Piece = ModelDriver::Piece;

const MobaConfig kTinyMoba{.block_size = 4, .top_k = 3};

/// A folder with the tiny model; `tensors` as they are or as a test has bent them.
void write_model(const TemporaryFolder& folder, const std::vector<NamedTensor>& tensors,
                 const std::string& config = tiny_config()) {
  folder.write("config.json", config);
  folder.write("model.safetensors", safetensors_bytes(tensors));
}

std::vector<int32_t> prompt(int32_t num_tokens, int32_t seed = 0) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < num_tokens; ++i) {
    tokens.push_back((i * i * 5 + i * 7 + seed * 11) % kTinyVocab);
  }
  return tokens;
}

std::vector<float> logits_of(const TemporaryFolder& folder, const std::string& backend) {
  ModelDriver driver(folder.path(), backend, kTinyMoba, {});
  return driver.prefill(driver.add_sequence(), prompt(50), 50, kTinyMoba);
}

TEST_CASE("untied and sharded weights of the same numbers give the same logits") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder tied, untied, sharded;
  std::vector<NamedTensor> tensors = tiny_tensors();
  write_model(tied, tensors);
  const std::vector<float> expected = logits_of(tied, backend);

  std::string config = tiny_config();
  config.replace(config.find("true"), 4, "false");
  tensors.push_back({"lm_head.weight", tensors[0].shape, tensors[0].values});
  write_model(untied, tensors, config);
  CHECK(logits_of(untied, backend) == expected);

  std::string index;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string shard = "model-" + std::to_string(i) + ".safetensors";
    sharded.write(shard, safetensors_bytes({tensors[i]}));
    index += (i == 0 ? "\"" : ", \"") + tensors[i].name + "\": \"" + shard + "\"";
  }
  sharded.write("config.json", config);
  sharded.write("model.safetensors.index.json", "{\"weight_map\": {" + index + "}}");
  CHECK(logits_of(sharded, backend) == expected);
}

TEST_CASE("a tied model with a head of its own uses it, and one with a copy is tied all the same") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder tied, copied, own, untied;
  std::vector<NamedTensor> tensors = tiny_tensors();
  write_model(tied, tensors);
  tensors.push_back({"lm_head.weight", tensors[0].shape, tensors[0].values});
  write_model(copied, tensors);
  std::ranges::reverse(tensors.back().values);
  write_model(own, tensors);
  std::string config = tiny_config();
  config.replace(config.find("true"), 4, "false");
  write_model(untied, tensors, config);
  CHECK(logits_of(copied, backend) == logits_of(tied, backend));
  CHECK(logits_of(own, backend) == logits_of(untied, backend));
  CHECK(logits_of(own, backend) != logits_of(tied, backend));
}

TEST_CASE("weights stored as float32 or float16 give the logits of the same numbers in bf16") {
  const auto backend = GENERATE(from_range(available_backends()));
  const auto dtype = GENERATE(as<std::string>{}, "F32", "F16");
  CAPTURE(backend, dtype);
  const TemporaryFolder original, stored;
  std::vector<NamedTensor> tensors = tiny_tensors();
  for (NamedTensor& tensor : tensors) {  // onto the grid of float16
    for (BFloat16& value : tensor.values) {
      value = to_bfloat16(std::round(to_float(value) * 4096) / 4096);
    }
  }
  write_model(original, tensors);
  stored.write("config.json", tiny_config());
  stored.write("model.safetensors", safetensors_bytes(tensors, dtype));
  CHECK(logits_of(stored, backend) == logits_of(original, backend));
}

TEST_CASE("the log says that stored numbers were rounded") {
  const TemporaryFolder folder;
  folder.write("config.json", tiny_config());
  folder.write("model.safetensors", safetensors_bytes(tiny_tensors(), "F32"));
  const auto backend = make_backend("reference");
  std::vector<std::string> lines;
  const LoadOptions options{.log = [&](const std::string& line) { lines.push_back(line); }};
  load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal, options);
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Contains("stored as F32, rounded to bf16") && Contains("lose precision"));

  lines.clear();
  write_model(folder, tiny_tensors());
  load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal, options);
  CHECK(lines.empty());
}

TEST_CASE("a long load says how far it is") {
  // A tensor that the model does not read and the file system does not store makes the file long.
  constexpr size_t kHoleBytes = size_t{1} << 30;
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  folder.write("hole.safetensors",
               safetensors_bytes(R"({"hole": {"dtype": "U8", "shape": [1073741824],
                                              "data_offsets": [0, 1073741824]}})",
                                 ""));
  const auto hole = folder.path() / "hole.safetensors";
  std::filesystem::resize_file(hole, std::filesystem::file_size(hole) + kHoleBytes);
  std::filesystem::rename(folder.path() / "model.safetensors", folder.path() / "a.safetensors");
  std::string index = R"("hole": "hole.safetensors")";
  for (const NamedTensor& tensor : tiny_tensors()) {
    index += ", \"" + tensor.name + R"(": "a.safetensors")";
  }
  folder.write("model.safetensors.index.json", "{\"weight_map\": {" + index + "}}");
  const auto backend = make_backend("reference");
  std::vector<std::string> lines;
  load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal,
             {.log = [&](const std::string& line) { lines.push_back(line); }});
  CHECK(lines == std::vector<std::string>{"weights: 1 of 2 layers", "weights: 2 of 2 layers"});
}

TEST_CASE("a load counts the bytes that it has read, every tensor's once, up to all of them") {
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  const auto backend = make_backend("reference");
  std::vector<std::pair<int64_t, int64_t>> calls;
  load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal,
             {.progress = [&](int64_t read, int64_t all) { calls.emplace_back(read, all); }});
  int64_t num_bytes = 0;
  for (const NamedTensor& tensor : tiny_tensors()) {
    num_bytes += static_cast<int64_t>(tensor.values.size() * sizeof(BFloat16));
  }
  REQUIRE(calls.size() > 10);
  for (size_t i = 0; i < calls.size(); ++i) {
    CHECK(calls[i].second == num_bytes);
    if (i > 0) CHECK(calls[i].first >= calls[i - 1].first);
  }
  CHECK(calls.front().first == int64_t{kTinyVocab} * 16 * 2);  // the embedding, tied
  CHECK(calls[calls.size() - 2].first == num_bytes);
  CHECK(calls.back().first == num_bytes);
}

TEST_CASE("a folder that lacks or bends a tensor is refused before anything runs") {
  const auto backend = make_backend("reference");
  const auto error_of = [&backend](const std::vector<NamedTensor>& tensors) {
    const TemporaryFolder folder;
    write_model(folder, tensors);
    return load_error_of([&] { load_model(folder.path(), *backend); });
  };
  CHECK(error_of(tiny_tensors()) == "");
  for (size_t i = 0; i < tiny_tensors().size(); ++i) {
    std::vector<NamedTensor> tensors = tiny_tensors();
    const std::string name = tensors[i].name;
    CAPTURE(name);
    tensors[i].name = "renamed";
    CHECK_THAT(error_of(tensors), Contains("missing tensor '" + name + "'"));
    tensors = tiny_tensors();
    tensors[i].shape.push_back(1);
    CHECK_THAT(error_of(tensors), Contains("tensor '" + name + "': expected BF16"));
  }
}

TEST_CASE("a step's scratch memory is what workspace_bytes says, to the byte") {
  const auto backend = GENERATE(from_range(available_backends()));
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  for (const int32_t num_tokens : {1, 3, 64, 200}) {
    CAPTURE(backend, num_tokens);
    ModelDriver driver(folder.path(), backend, kTinyMoba, {.max_tokens = num_tokens});
    driver.prefill(driver.add_sequence(), prompt(num_tokens), num_tokens, kTinyMoba);
    const size_t need = driver.model().workspace_bytes(
        {.max_tokens = num_tokens, .max_logit_rows = 1, .max_top_k = kTinyMoba.top_k});
    CHECK(driver.workspace().peak_bytes() == need);
  }
}

TEST_CASE("a step without wanted logits returns no rows and still fills the cache") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  ModelDriver driver(folder.path(), backend, kTinyMoba, {});
  const size_t split = driver.add_sequence();
  std::vector<int32_t> tokens = prompt(30);
  const int32_t last = tokens.back();
  tokens.pop_back();
  CHECK(driver.step({{.sequence = split, .tokens = tokens, .top_k = 3, .wants_logits = false}})
            .empty());
  const auto rows = driver.step({{.sequence = split, .tokens = {last}, .top_k = 3}});
  REQUIRE(rows.size() == 1);
  CHECK(rows[0] == driver.prefill(driver.add_sequence(), prompt(30), 30, kTinyMoba));
}

TEST_CASE(
    "sequences of different modes, top_k and phase share a step without touching each other") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());

  // Alone: sequence i has 20 + 9i tokens of cache, then takes 1 + 5i more.
  const auto piece = [](int32_t i, size_t sequence) {
    return Piece{.sequence = sequence,
                 .tokens = prompt(1 + 5 * i, i),
                 .mode = i < 2 ? AttentionMode::kMoba : AttentionMode::kFull,
                 .top_k = 2 + i};
  };
  std::vector<std::vector<float>> alone;
  for (int32_t i = 0; i < 4; ++i) {
    ModelDriver driver(folder.path(), backend, kTinyMoba, {.shuffle_seed = 77});
    const size_t sequence = driver.add_sequence();
    driver.prefill(sequence, prompt(20 + 9 * i, i), 64, kTinyMoba);
    alone.push_back(driver.step({piece(i, sequence)}).at(0));
  }

  ModelDriver driver(folder.path(), backend, kTinyMoba, {});
  std::vector<Piece> batch;
  for (int32_t i = 0; i < 4; ++i) {
    const size_t sequence = driver.add_sequence();
    driver.prefill(sequence, prompt(20 + 9 * i, i), 64, kTinyMoba);
    batch.push_back(piece(i, sequence));
  }
  const auto together = driver.step(batch);
  REQUIRE(together.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    CHECK(together[i] == alone[i]);
  }
}

TEST_CASE("attention policy: a layer listed as full ignores top_k, the others do not") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  const auto run = [&](const MobaConfig& moba) {
    ModelDriver driver(folder.path(), backend, moba, {});
    return driver.prefill(driver.add_sequence(), prompt(60), 60, moba);
  };
  MobaConfig sparse{.block_size = 4, .top_k = 1};
  MobaConfig one_full = sparse, all_full = sparse, full_mode = sparse;
  one_full.full_attention_layers = {0};
  all_full.full_attention_layers = {0, 1};
  full_mode.prefill = AttentionMode::kFull;
  CHECK(run(all_full) == run(full_mode));
  CHECK(run(sparse) != run(full_mode));
  CHECK(run(one_full) != run(sparse));
  CHECK(run(one_full) != run(all_full));
}

TEST_CASE("each digest is another model, and the same one in any chunks") {
  const std::string backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  std::vector<std::vector<float>> answers;
  for (const BlockDigest digest : kBlockDigests) {
    MobaConfig moba{.block_size = 4, .top_k = 2};
    moba.digest = digest;
    const auto run = [&](int32_t chunk) {
      ModelDriver driver(folder.path(), backend, moba, {});
      return driver.prefill(driver.add_sequence(), prompt(60), chunk, moba);
    };
    answers.push_back(run(60));
    CHECK(run(7) == answers.back());
  }
  CHECK(answers[0] != answers[1]);
  CHECK(answers[0] != answers[2]);
  CHECK(answers[1] != answers[2]);
}

/// The tiny model as a Mistral whose tokens see 20 tokens.
std::string windowed_config() {
  std::string config = tiny_config(R"(, "sliding_window": 20)");
  return config.replace(config.find("LlamaForCausalLM"), 16, "MistralForCausalLM");
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(a[i] - b[i], 2);
  return sum;
}

TEST_CASE("a model with windows answers as by the reference, the same in any chunks") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors(), windowed_config());
  const auto run = [&](const std::string& name, int32_t chunk) {
    ModelDriver driver(folder.path(), name, kTinyMoba, {});
    return driver.prefill(driver.add_sequence(), prompt(60), chunk, kTinyMoba);
  };
  const std::vector<float> answer = run(backend, 60);
  CHECK(run(backend, 7) == answer);
  const std::vector<float> expected = run("reference", 60);
  const double size = squared_distance(expected, std::vector<float>(expected.size()));
  CHECK(squared_distance(answer, expected) < 1e-3 * size);
  write_model(folder, tiny_tensors());  // what a window of another length would give is further off
  CHECK(squared_distance(run("reference", 60), expected) > 1e-2 * size);
}

TEST_CASE("a window no shorter than the longest sequence is none") {
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors(), windowed_config());
  const auto backend = make_backend("reference");
  const auto window_at = [&](int32_t max_model_len) {
    return load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal,
                      {.max_model_len = max_model_len})
        ->config()
        .window_of(0);
  };
  CHECK(window_at(20) == 0);
  CHECK(window_at(21) == 20);
  CHECK(window_at(0) == 20);  // max_position_embeddings is 4096
}

TEST_CASE("longrope has two rope sets where a sequence can outgrow the first, and says so") {
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors(),
              tiny_config(R"(, "original_max_position_embeddings": 100, "rope_scaling":
                               {"type": "longrope", "short_factor": [1, 1, 1, 1],
                                "long_factor": [2, 2, 2, 2]})"));
  const auto backend = make_backend("reference");
  std::vector<std::string> lines;
  const auto load = [&](int32_t max_model_len) {
    LoadOptions options{.max_model_len = max_model_len};
    options.log = [&](const std::string& line) { lines.push_back(line); };
    return load_model(folder.path(), *backend, nullptr, WeightFormat::kOriginal, options);
  };
  CHECK(load(100)->rope_switch_len() == 0);
  CHECK(lines.empty());
  CHECK(load(101)->rope_switch_len() == 100);
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Contains("up to 100 tokens"));
}

TEST_CASE("a cache of another shape is a contract violation, not a crash") {
  const TemporaryFolder folder;
  write_model(folder, tiny_tensors());
  const auto backend = make_backend("reference");
  const auto model = load_model(folder.path(), *backend);
  Workspace workspace(backend->allocate(1 << 20));
  CHECK_THROWS_AS(model->forward({}, {}, workspace), ContractError);
}

}  // namespace
}  // namespace quire::test
