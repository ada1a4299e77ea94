#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/eval/quire_eval/recall.h"
#include "tests/eval/quire_eval/text.h"

namespace quire::eval {
namespace {

/// Calls visit(block_size, top_k, cell) for every cell of the grid, in its order.
template <class Visit>
void for_each_cell(const SelectionGrid& grid, const RecallSums& sums, const Visit& visit) {
  for (size_t size = 0; size < grid.block_sizes.size(); ++size) {
    for (size_t k = 0; k < grid.top_k.size(); ++k) {
      visit(grid.block_sizes[size], grid.top_k[k], sums.cells[grid.cell(size, k)]);
    }
  }
}

/// Not a layer that sees a window only.
bool is_measured(const RecallSums& layer) { return layer.num_queries > 0; }

std::string rows_of(const SelectionGrid& grid, const RecallSums& sums) {
  std::string text = formatted("%10s %6s %8s %7s", "block size", "top-k", "tokens", "best");
  for (const BlockDigest digest : kBlockDigests) {
    text += formatted(" %12s", std::string(digest_name(digest)).c_str());
  }
  text += "\n";
  const double percent = 100.0 / static_cast<double>(std::max<int64_t>(sums.num_queries, 1));
  for_each_cell(grid, sums, [&](int32_t block_size, int32_t top_k, const RecallSums::Cell& cell) {
    text +=
        formatted("%10d %6d %8d %7.1f", block_size, top_k, block_size * top_k, cell.best * percent);
    for (const double share : cell.by_digest) text += formatted(" %12.1f", share * percent);
    text += "\n";
  });
  return text;
}

nlohmann::json cells_of(const SelectionGrid& grid, const RecallSums& sums) {
  nlohmann::json cells = nlohmann::json::array();
  const double share = 1.0 / static_cast<double>(std::max<int64_t>(sums.num_queries, 1));
  for_each_cell(grid, sums, [&](int32_t block_size, int32_t top_k, const RecallSums::Cell& cell) {
    nlohmann::json entry = {
        {"block_size", block_size}, {"top_k", top_k}, {"best", cell.best * share}};
    for (const BlockDigest digest : kBlockDigests) {
      entry[std::string(digest_name(digest))] = cell.by_digest[static_cast<size_t>(digest)] * share;
    }
    cells.push_back(std::move(entry));
  });
  return cells;
}

}  // namespace

std::string recall_table(const RecallReport& report, bool by_layer) {
  const auto num_measured = std::ranges::count_if(report.layers, is_measured);
  std::string text =
      formatted("%s: %d tokens, %d queries in every head of %d layers\n", report.model.c_str(),
                report.num_tokens, report.num_queries, static_cast<int>(num_measured));
  if (const auto num_windowed = std::ssize(report.layers) - num_measured; num_windowed > 0) {
    text += formatted("%d layers see a window only, which nothing replaces: left out.\n",
                      static_cast<int>(num_windowed));
  }
  text += "Share of full attention's weight that lies in the selected blocks, in percent.\n";
  text += "best: of the blocks with the most weight, which no digest can know.\n\n";
  text += rows_of(report.grid, report.all_layers());
  if (!by_layer) return text;
  for (size_t layer = 0; layer < report.layers.size(); ++layer) {
    if (!is_measured(report.layers[layer])) continue;
    text += formatted("\nlayer %zu\n", layer) + rows_of(report.grid, report.layers[layer]);
  }
  return text;
}

std::string recall_json(const RecallReport& report) {
  nlohmann::json root = {{"model", report.model},
                         {"tokens", report.num_tokens},
                         {"queries", report.num_queries},
                         {"all_layers", cells_of(report.grid, report.all_layers())},
                         {"layers", nlohmann::json::array()}};
  for (const RecallSums& layer : report.layers) {
    root["layers"].push_back(is_measured(layer) ? cells_of(report.grid, layer) : nullptr);
  }
  return root.dump(1) + "\n";
}

}  // namespace quire::eval
