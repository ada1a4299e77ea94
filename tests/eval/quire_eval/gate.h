#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace quire::eval {

struct GateOptions {
  std::filesystem::path model;     // a Hugging Face folder with a `moba` section
  std::filesystem::path facts;     // JSON, see read_planted_facts
  std::vector<std::string> heads;  // "LAYER.HEAD"; empty: all
  int32_t top_k = 0;               // of the document's tokens and the questions'; 0: the model's
  int32_t decode_top_k = 0;        // of the answers'; 0: the model's
  std::string backend = "cpu";
  int num_threads = 0;  // 0: as many CPUs as the process may use
};

/// A question and its right answer. A step: for the answer's token `at`, the token that follows is
/// looked up at `position` of the document.
struct PlantedFact {
  struct Step {
    int32_t at = 0, position = 0;
  };
  std::vector<int32_t> asked, answer;
  std::vector<Step> steps;
};

struct PlantedFacts {
  std::vector<int32_t> document;
  std::vector<PlantedFact> facts;
};

/// {"document": [id…], "facts": [{"asked": [id…], "answer": [id…], "steps": [[at, position]…]}…]}
/// Throws std::runtime_error, naming `source`, for anything else, ids beyond vocab_size included.
PlantedFacts parse_planted_facts(const std::string& json, const std::string& source,
                                 int32_t vocab_size);

struct GateReport {
  struct Head {
    int32_t layer = 0, head = 0;
    int64_t num_found = 0;  // steps
  };
  std::string model;
  int32_t num_tokens = 0;  // of the document
  int32_t block_size = 0, top_k = 0, decode_top_k = 0;
  int64_t num_steps = 0;
  int64_t num_found = 0;  // by any of the heads
  std::vector<Head> heads;
};

/// Throws LoadError, std::invalid_argument and std::runtime_error.
GateReport measure_gate(const GateOptions& options);

std::string gate_table(const GateReport& report);

}  // namespace quire::eval
