#include "tests/eval/quire_eval/selection_recall.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/eval/quire_eval/recall.h"
#include "tests/models/model_folder.h"

namespace quire::eval {
namespace {

constexpr auto kMean = static_cast<size_t>(BlockDigest::kMean);
constexpr auto kBounds = static_cast<size_t>(BlockDigest::kBounds);

RecallSums sums_of(const std::vector<float>& query, const std::vector<float>& keys,
                   const SelectionGrid& grid) {
  const auto head_dim = static_cast<int64_t>(query.size());
  RecallSums sums(grid);
  add_query(query, static_cast<int64_t>(keys.size()) / head_dim - 1, 1.0f,
            DigestedKeys(keys, head_dim, grid), grid, sums);
  return sums;
}

TEST_CASE("a query without preference reads as much as it selects, the most recent blocks first") {
  // Positions 0 .. 9 in blocks of 4: two past blocks, and two tokens of the query's own.
  const SelectionGrid grid{{4}, {1, 2, 3, 9}};
  const RecallSums sums = sums_of({0, 0}, std::vector<float>(20, 1.0f), grid);
  const std::vector<double> expected = {0.2, 0.6, 1, 1};
  for (size_t k = 0; k < expected.size(); ++k) {
    CAPTURE(k);
    CHECK(sums.cells[k].best == Approx(expected[k]));
    for (const double share : sums.cells[k].by_digest) CHECK(share == Approx(expected[k]));
  }
}

TEST_CASE("bounds find one strong key whose block's mean says nothing; the mean does not") {
  // Three past blocks of 2. The first holds a key of 30 and its opposite, the second two of 1.
  const SelectionGrid grid{{2}, {2}};
  const RecallSums sums = sums_of({1}, {30, -30, 1, 1, 0, 0, 0}, grid);
  CHECK(sums.cells[0].best == Approx(1));
  CHECK(sums.cells[0].by_digest[kBounds] == Approx(1));
  CHECK(sums.cells[0].by_digest[kMean] < 1e-6);
}

TEST_CASE("no digest reads more than the best selection, and all blocks hold everything") {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> query(8), keys(8 * 203);
  for (float& x : query) x = normal(random);
  for (float& x : keys) x = normal(random);
  const SelectionGrid grid{{1, 7, 16}, {2, 5, 203}};
  const RecallSums sums = sums_of(query, keys, grid);
  for (size_t size = 0; size < 3; ++size) {
    for (const size_t k : {size_t{0}, size_t{1}}) {
      const RecallSums::Cell& cell = sums.cells[grid.cell(size, k)];
      for (const double share : cell.by_digest) {
        CHECK(share > 0);
        CHECK(share <= cell.best + 1e-12);
      }
      CHECK(cell.best < 0.999);
    }
    const RecallSums::Cell& all = sums.cells[grid.cell(size, 2)];
    for (const double share : all.by_digest) CHECK(share == Approx(1));
  }
  // A block of one key is its own digest: selection by score is selection by weight.
  for (const double share : sums.cells[grid.cell(0, 1)].by_digest) {
    CHECK(share == Approx(sums.cells[grid.cell(0, 1)].best));
  }
}

TEST_CASE("the bundled model's recall grows with the number of blocks, on any number of threads") {
  RecallOptions options;
  options.model = QUIRE_BUNDLED_MODEL;
  options.text = QUIRE_SOURCE_DIR "/models/train/README.md";
  options.num_tokens = 2048;
  options.num_queries = 16;
  options.num_threads = 2;
  options.grid = {{64, 256}, {2, 4, 8}};
  const RecallReport report = measure_recall(options);
  CHECK(report.num_tokens == 2048);
  CHECK(report.num_queries == 16);
  const RecallSums sums = report.all_layers();
  CHECK(sums.num_queries == 16 * 4 * 4);  // positions, layers, heads
  const auto share = [&](size_t cell, size_t digest) {
    return sums.cells[cell].by_digest[digest] / static_cast<double>(sums.num_queries);
  };
  for (size_t digest = 0; digest < kBlockDigests.size(); ++digest) {
    CHECK(share(0, digest) < share(2, digest));
    CHECK(share(5, digest) == Approx(1));  // 8 blocks of 256 are all there is
  }
  CHECK(share(2, kMean) > 0.5);

  options.num_threads = 1;
  CHECK(recall_json(measure_recall(options)) == recall_json(report));
}

TEST_CASE("layers that see a window only are left out of the recall, and the table says so") {
  const test::TemporaryFolder folder;
  for (const char* const name : {"model.safetensors", "tokenizer.model"}) {
    std::filesystem::create_symlink(std::filesystem::path(QUIRE_BUNDLED_MODEL) / name,
                                    folder.path() / name);
  }
  std::ifstream file(QUIRE_BUNDLED_MODEL "/config.json");
  nlohmann::json config = nlohmann::json::parse(file);
  config["architectures"] = {"MistralForCausalLM"};
  config["sliding_window"] = 300;
  folder.write("config.json", config.dump());
  RecallOptions options;
  options.model = folder.path();
  options.text = QUIRE_SOURCE_DIR "/models/train/README.md";
  options.num_tokens = 1024;
  options.num_queries = 8;
  options.grid = {{64}, {2}};
  const RecallReport report = measure_recall(options);
  CHECK(report.all_layers().num_queries == 0);
  CHECK_THAT(recall_table(report, true),
             Catch::Contains("4 layers see a window only") && !Catch::Contains("layer 0"));
}

TEST_CASE("a text that is too short for a measurement is refused by name") {
  RecallOptions options;
  options.model = QUIRE_BUNDLED_MODEL;
  options.text = QUIRE_BUNDLED_MODEL "/config.json";
  CHECK_THROWS_WITH(measure_recall(options),
                    Catch::Contains("config.json") && Catch::Contains("at least 512"));
}

}  // namespace
}  // namespace quire::eval
