#include "tests/eval/quire_eval/gate.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "models/model.h"
#include "tests/eval/quire_eval/text.h"
#include "tests/eval/quire_eval/watched_model.h"

namespace quire::eval {
namespace {

constexpr int32_t kStepTokens = 2048;

using Json = nlohmann::json;

std::vector<int32_t> ids_of(const Json& values, int32_t vocab_size) {
  auto ids = values.get<std::vector<int32_t>>();
  const bool exist =
      std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < vocab_size; });
  if (!exist || ids.empty()) throw std::runtime_error("no tokens, or some that the model has not");
  return ids;
}

PlantedFact fact_of(const Json& value, int32_t vocab_size, int32_t document_size) {
  PlantedFact fact{
      ids_of(value.at("asked"), vocab_size), ids_of(value.at("answer"), vocab_size), {}};
  for (const Json& pair : value.at("steps")) {
    const PlantedFact::Step step{pair.at(0).get<int32_t>(), pair.at(1).get<int32_t>()};
    if (step.at < 0 || step.at >= static_cast<int32_t>(fact.answer.size()) || step.position < 0 ||
        step.position >= document_size) {
      throw std::runtime_error("a step outside of the answer or the document");
    }
    fact.steps.push_back(step);
  }
  if (static_cast<int32_t>(fact.asked.size()) > kStepTokens ||
      static_cast<int32_t>(fact.answer.size()) > kStepTokens) {
    throw std::runtime_error("a question or answer of more than " + std::to_string(kStepTokens) +
                             " tokens");
  }
  return fact;
}

std::vector<GateReport::Head> heads_of(const std::vector<std::string>& names,
                                       const ModelConfig& config) {
  std::vector<GateReport::Head> all, chosen;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (int32_t head = 0; head < config.num_heads; ++head) all.push_back({layer, head});
  }
  if (names.empty()) return all;
  for (const std::string& name : names) {
    const auto same = std::find_if(all.begin(), all.end(), [&](const GateReport::Head& head) {
      return name == std::to_string(head.layer) + "." + std::to_string(head.head);
    });
    if (same == all.end()) throw std::invalid_argument(name + ": the model has no such head");
    chosen.push_back(*same);
  }
  return chosen;
}

MobaConfig moba_of(const GateOptions& options, const ModelConfig& config) {
  if (!config.moba) {
    throw std::invalid_argument(options.model.string() + ": was not trained with MoBA");
  }
  MobaConfig moba = *config.moba;
  if (options.decode_top_k > 0) moba.decode_top_k = options.decode_top_k;
  if (options.top_k > 0) moba.top_k = options.top_k;
  return moba;
}

/// Which of an answer's steps every head has found: one call for each layer, in their order.
class Finder {
 public:
  Finder(GateReport& report, Backend& backend) : report_(report), backend_(backend) {}

  void begin(const PlantedFact& fact) {
    fact_ = &fact;
    layer_ = 0;
    found_.assign(fact.steps.size(), false);
  }

  void look(const MobaGateParams& p) {
    backend_.synchronize();
    const int64_t num_heads = p.selected.shape[1], width = p.selected.shape[2];
    QUIRE_CHECK(p.selected.is_contiguous()) << "selected blocks that do not follow each other";
    std::vector<int32_t> selected(static_cast<size_t>(p.selected.shape[0] * num_heads * width));
    backend_.download(p.selected.data, std::as_writable_bytes(std::span(selected)));
    for (size_t i = 0; i < fact_->steps.size(); ++i) {
      const auto [at, position] = fact_->steps[i];
      for (GateReport::Head& head : report_.heads) {
        if (head.layer != layer_) continue;
        const auto row = selected.begin() + (at * num_heads + head.head) * width;
        if (std::find(row, row + width, position / report_.block_size) == row + width) continue;
        ++head.num_found;
        found_[i] = true;
      }
    }
    ++layer_;
  }

  void end() {
    report_.num_steps += static_cast<int64_t>(found_.size());
    report_.num_found += std::count(found_.begin(), found_.end(), true);
  }

 private:
  GateReport& report_;
  Backend& backend_;
  const PlantedFact* fact_ = nullptr;
  int32_t layer_ = 0;
  std::vector<bool> found_;
};

}  // namespace

PlantedFacts parse_planted_facts(const std::string& json, const std::string& source,
                                 int32_t vocab_size) {
  try {
    const Json root = Json::parse(json);
    PlantedFacts planted{ids_of(root.at("document"), vocab_size), {}};
    const auto size = static_cast<int32_t>(planted.document.size());
    for (const Json& value : root.at("facts")) {
      planted.facts.push_back(fact_of(value, vocab_size, size));
    }
    return planted;
  } catch (const std::exception& error) {
    throw std::runtime_error(source + ": " + error.what());
  }
}

GateReport measure_gate(const GateOptions& options) {
  const ModelConfig config = load_model_config(options.model);
  const MobaConfig moba = moba_of(options, config);
  const PlantedFacts planted =
      parse_planted_facts(read_text(options.facts), options.facts.string(), config.vocab_size);
  size_t longest = 0;
  for (const PlantedFact& fact : planted.facts) {
    longest = std::max(longest, fact.asked.size() + fact.answer.size());
  }
  const auto num_tokens = static_cast<int32_t>(planted.document.size());
  WatchedModel model({.model = options.model,
                      .backend = options.backend,
                      .num_threads = options.num_threads,
                      .max_tokens = num_tokens + static_cast<int32_t>(longest),
                      .max_step_tokens = kStepTokens,
                      .moba = moba});
  GateReport report{
      .model = std::filesystem::path(options.model).lexically_normal().filename().string(),
      .num_tokens = num_tokens,
      .block_size = moba.block_size,
      .top_k = moba.top_k,
      .decode_top_k = moba.top_k_of_decode(),
      .heads = heads_of(options.heads, config)};
  model.write(0, planted.document);
  while (model.num_computed() < num_tokens) {
    model.read_to(std::min(model.num_computed() + kStepTokens, num_tokens), AttentionMode::kMoba,
                  moba.top_k);
  }
  Finder finder(report, model.backend());
  for (const PlantedFact& fact : planted.facts) {
    const auto asked = num_tokens + static_cast<int32_t>(fact.asked.size());
    std::vector<int32_t> tokens = fact.asked;
    tokens.insert(tokens.end(), fact.answer.begin(), fact.answer.end());
    model.write(num_tokens, tokens);
    model.read_to(asked, AttentionMode::kMoba, moba.top_k);
    finder.begin(fact);
    model.backend().observe_selection([&](const MobaGateParams& p) { finder.look(p); });
    model.read_to(asked + static_cast<int32_t>(fact.answer.size()), AttentionMode::kMoba,
                  moba.top_k_of_decode());
    model.backend().observe_selection({});
    finder.end();
  }
  return report;
}

std::string gate_table(const GateReport& report) {
  const double percent = 100.0 / static_cast<double>(std::max<int64_t>(report.num_steps, 1));
  const int64_t num_blocks = (report.num_tokens + report.block_size - 1) / report.block_size;
  const double chance = 100.0 * std::min<double>(1.0, static_cast<double>(report.decode_top_k - 1) /
                                                          static_cast<double>(num_blocks));
  std::string text =
      formatted("%s: %d tokens, blocks of %d, top %d, %d for answers; %lld steps\n",
                report.model.c_str(), report.num_tokens, report.block_size, report.top_k,
                report.decode_top_k, static_cast<long long>(report.num_steps));
  text += formatted("found by any head: %.1f%%, by chance a head finds %.2f%%\n",
                    static_cast<double>(report.num_found) * percent, chance);
  for (const GateReport::Head& head : report.heads) {
    text += formatted("layer %d head %d: %.1f%%\n", head.layer, head.head,
                      static_cast<double>(head.num_found) * percent);
  }
  return text;
}

}  // namespace quire::eval
