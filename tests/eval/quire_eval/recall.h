#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/eval/quire_eval/selection_recall.h"

namespace quire::eval {

struct RecallOptions {
  std::filesystem::path model;  // a Hugging Face folder; empty: the bundled model
  std::filesystem::path text;   // UTF-8
  std::string backend = "cpu";
  int num_threads = 0;         // 0: as many CPUs as the process may use
  int32_t num_tokens = 16384;  // of the text, from its beginning
  int32_t num_queries = 128;   // positions whose queries are measured, in every layer and head
  SelectionGrid grid = {{16, 32, 64, 128, 256}, {4, 8, 16, 32}};
  bool by_layer = false;
  bool as_json = false;
};

struct RecallReport {
  std::string model;
  int32_t num_tokens = 0;   // that were read
  int32_t num_queries = 0;  // positions
  SelectionGrid grid;
  std::vector<RecallSums> layers;  // without queries where a layer sees a window only

  RecallSums all_layers() const;
};

/// Reads the text once in full attention. The queries are those of the last positions of every
/// eighth of it, so that all of them have a past to choose from. Throws LoadError,
/// std::invalid_argument and std::runtime_error.
RecallReport measure_recall(const RecallOptions& options);

/// A table for people, in percent; or the same as JSON, in shares.
std::string recall_table(const RecallReport& report, bool by_layer);
std::string recall_json(const RecallReport& report);

}  // namespace quire::eval
