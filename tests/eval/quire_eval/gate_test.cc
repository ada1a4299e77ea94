#include "tests/eval/quire_eval/gate.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/models/model_folder.h"

namespace quire::eval {
namespace {

using Catch::Matchers::Contains;
using Json = nlohmann::json;

constexpr int32_t kBlockSize = 64, kNumBlocks = 12;  // of the bundled model and of the document

/// A document of words that mean nothing, and a look-up in each of its blocks and in the last one.
Json planted_facts() {
  Json document = Json::array();
  for (int32_t i = 0; i < kNumBlocks * kBlockSize - 5; ++i) document.push_back(300 + i * 7 % 3000);
  Json steps = Json::array();
  for (int32_t block = 0; block < kNumBlocks; ++block) steps.push_back({block, block * kBlockSize});
  const Json answer(kNumBlocks + 1, 400);
  return {{"document", document},
          {"facts", {{{"asked", {4, 300, 5}}, {"answer", answer}, {"steps", steps}}}}};
}

GateReport gate_of(const Json& facts, int32_t top_k, std::vector<std::string> heads = {}) {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "facts.json";
  std::ofstream(path) << facts;
  return measure_gate({.model = QUIRE_BUNDLED_MODEL,
                       .facts = path,
                       .heads = std::move(heads),
                       .decode_top_k = top_k,
                       .num_threads = 1});
}

TEST_CASE("gate: with as many blocks as there are every step is found, with one only the own") {
  const GateReport all = gate_of(planted_facts(), kNumBlocks + 1);
  CHECK(all.num_steps == kNumBlocks);
  CHECK(all.num_found == kNumBlocks);
  for (const GateReport::Head& head : all.heads) CHECK(head.num_found == kNumBlocks);

  // The question fills the document's last block: what follows it stands in the next one.
  const GateReport own = gate_of(planted_facts(), 1);
  CHECK(own.num_found <= 1);

  const GateReport some = gate_of(planted_facts(), 4, {"1.0"});
  REQUIRE(some.heads.size() == 1);
  CHECK(some.num_found == some.heads[0].num_found);
  CHECK(some.num_found > 0);  // the block before is what this head looks for
  CHECK(some.num_found < kNumBlocks);
  CHECK_THAT(gate_table(some), Contains("layer 1 head 0"));
}

TEST_CASE("gate: what can not be asked is refused by name") {
  CHECK_THROWS_WITH(gate_of(planted_facts(), 4, {"9.0"}), Contains("9.0"));
  Json facts = planted_facts();
  facts["facts"][0]["steps"][0][1] = 1 << 20;
  CHECK_THROWS_WITH(gate_of(facts, 4), Contains("facts.json") && Contains("a step outside"));
  facts = planted_facts();
  facts["document"][3] = 1 << 20;
  CHECK_THROWS_WITH(gate_of(facts, 4), Contains("facts.json"));
  CHECK_THROWS_WITH(parse_planted_facts("{}", "here.json", 10), Contains("here.json"));
}

}  // namespace
}  // namespace quire::eval
