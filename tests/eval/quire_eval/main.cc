#include <omp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "server/bundled_model.h"
#include "tests/eval/quire_eval/gate.h"
#include "tests/eval/quire_eval/recall.h"

namespace quire::eval {
namespace {

constexpr int kFailure = 2;

constexpr const char* kRecallHelp =
    "What block selection would read of a model's attention.\n\n"
    "Reads a text in full attention and takes, for sampled queries of every layer and head, the "
    "share of attention's weight that lies in the blocks that a digest selects: mean (MoBA), "
    "bounds "
    "(Quest), cuboid-mean (ArkVale), by block size and number of blocks. What is missing from 100 "
    "is what sparse attention would not see on this model and text.";

void add_recall(CLI::App& app, RecallOptions& options) {
  app.add_option("--text", options.text, "a file in UTF-8")->required()->check(CLI::ExistingFile);
  app.add_option("--model", options.model, "Hugging Face folder; default: the bundled model");
  app.add_option("--tokens", options.num_tokens, "of the text, from its beginning")
      ->check(CLI::Range(512, 1 << 24))
      ->capture_default_str();
  app.add_option("--queries", options.num_queries, "positions that are measured")
      ->check(CLI::Range(8, 1 << 16))
      ->capture_default_str();
  app.add_option("--block-sizes", options.grid.block_sizes, "tokens, a list")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--top-k", options.grid.top_k, "blocks, the query's own included, a list")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--backend", options.backend, "cpu, reference or cuda:N")->capture_default_str();
  app.add_option("--threads", options.num_threads, "0: as many CPUs as the process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--by-layer", options.by_layer, "a table for every layer, too");
  app.add_flag("--json", options.as_json, "every layer, in shares");
}

constexpr const char* kGateHelp =
    "How often a model's gate selects the block that holds the answer.\n\n"
    "Reads a document with planted facts as the server does, then every question with its right "
    "answer behind it. A step counts for each token of a value: is the block where it stands among "
    "those that a head selects for the answer's token before it?";

void add_gate(CLI::App& app, GateOptions& options) {
  app.add_option("--facts", options.facts, "what models/train/planted.py wrote")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--model", options.model, "Hugging Face folder; default: the bundled model");
  app.add_option("--heads", options.heads, "LAYER.HEAD, a list; default: all")->delimiter(',');
  app.add_option("--top-k", options.top_k, "blocks of the document's tokens; default: the model's")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--decode-top-k", options.decode_top_k, "of the answers'; default: the model's")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--backend", options.backend, "cpu, reference or cuda:N")->capture_default_str();
  app.add_option("--threads", options.num_threads, "0: as many CPUs as the process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

/// The bundled model and all CPUs, where nothing else is said.
template <class Options>
Options completed(Options options) {
  if (options.model.empty()) options.model = bundled_model();
  if (options.num_threads == 0) options.num_threads = omp_get_num_procs();
  return options;
}

std::string recall_text(const RecallOptions& options) {
  const RecallReport report = measure_recall(completed(options));
  return options.as_json ? recall_json(report) : recall_table(report, options.by_layer);
}

int run(int argc, char** argv) {
  CLI::App app("quire-eval: what a checkpoint loses by sparse attention", "quire-eval");
  app.require_subcommand(1);
  RecallOptions recall_options;
  GateOptions gate_options;
  CLI::App* recall = app.add_subcommand("recall", kRecallHelp);
  add_recall(*recall, recall_options);
  add_gate(*app.add_subcommand("gate", kGateHelp), gate_options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kFailure;
  }
  const std::string text = recall->parsed() ? recall_text(recall_options)
                                            : gate_table(measure_gate(completed(gate_options)));
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace quire::eval

int main(int argc, char** argv) {
  try {
    return quire::eval::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quire-eval: %s\n", error.what());
    return quire::eval::kFailure;
  }
}
