#include "tests/bench/quire_bench/bench_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <sstream>

namespace quire::bench {
namespace {

constexpr int kBadSettings = 2;
constexpr int32_t kMaxDepth = 1 << 28;

constexpr const char* kPrefillHelp =
    "Prefill of a chunk of tokens behind a context of each depth.\n\n"
    "The context is not computed: its keys and values are random bf16 numbers of standard "
    "deviation "
    "1, its centroids are sealed from them by seal_blocks, and the measured chunk attends to them "
    "as it would to computed ones. Random keys make every query choose blocks of its own, the "
    "worst case for locality. --whole computes everything from token 0 instead.";
constexpr const char* kServeHelp =
    "Streamed completions of a running server, as its clients see them: tokens per second, time to "
    "the first token, time between tokens. Works with any server of OpenAI's /v1/completions.";
constexpr const char* kDecodeHelp =
    "Decode steps of a batch of sequences behind a context of each depth.\n\n"
    "The contexts are not computed: their keys and values are random bf16 numbers of standard "
    "deviation 1, their centroids are sealed from them by seal_blocks. No two sequences share a "
    "block.";

/// A value by its name. CLI::CheckedTransformer would print values of one byte as characters.
template <class T>
CLI::Validator one_of(const std::map<std::string, T>& values) {
  std::string names;
  for (const auto& [name, value] : values) names += (names.empty() ? "{" : ",") + name;
  names += "}";
  const auto replace = [values, names](std::string& input) {
    const auto found = values.find(input);
    if (found == values.end()) return "expected one of " + names + ", got \"" + input + "\"";
    input = std::to_string(static_cast<int>(found->second));
    return std::string();
  };
  return CLI::Validator(replace, names);
}

void add_model_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--shape", options.shape,
                 "bundled, tiny, llama-3.2-1b, llama-3.1-8b, or "
                 "LAYERS,DIM,HEADS,KV_HEADS,HEAD_DIM,FFN,VOCAB; random weights but for bundled")
      ->capture_default_str();
  app.add_option("--model", options.model, "Hugging Face folder or GGUF file instead of a shape");
  app.add_option("--weights", options.weights, "bf16 or int8")
      ->transform(
          one_of<WeightFormat>({{"bf16", WeightFormat::kOriginal}, {"int8", WeightFormat::kInt8}}))
      ->default_str("bf16");
  app.add_option("--attention", options.attention, "moba or full")
      ->transform(
          one_of<AttentionMode>({{"moba", AttentionMode::kMoba}, {"full", AttentionMode::kFull}}))
      ->default_str("moba");
  app.add_option("--block-size", options.block_size, "tokens per block; default: the model's")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--top-k", options.top_k, "blocks per token and head; default: the model's")
      ->check(CLI::Range(1, 1 << 16));
  app.add_option("--moba-schedule", options.schedule,
                 "FROM:GROUP[:TOP_K],… in tokens, blocks, units; none; default: the model's");
  app.add_option("--kv-dtype", options.kv_dtype, "of the cache: bf16 or int8")
      ->transform(one_of<DType>({{"bf16", DType::kBF16}, {"int8", DType::kI8}}))
      ->default_str("bf16");
  app.add_option("--seed", options.seed, "of weights, keys, values and tokens")
      ->capture_default_str();
}

void add_run_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--backend", options.backend, "cpu, reference or cuda:N")->capture_default_str();
  app.add_option("--threads", options.num_threads,
                 "CPU threads; 0: as many CPUs as the process may use (pin it with taskset)")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--op-times", options.op_times,
               "wait for every operation, so that its share is its own on a GPU, too");
  app.add_option("--depth", options.depths, "tokens of context before the measurement, a list")
      ->delimiter(',')
      ->check(CLI::Range(0, kMaxDepth))
      ->default_str("0");
  app.add_option("--repetitions", options.num_repetitions,
                 "timed runs per case, after one warm-up; default 5, with --whole 1")
      ->check(CLI::Range(1, 1000));
  app.add_option("--peak-gflops", options.peaks.gflops, "for the floor; default: measured")
      ->check(CLI::PositiveNumber);
  app.add_option("--peak-gbps", options.peaks.gbytes_per_s,
                 "GB/s of memory for the floor; default: measured")
      ->check(CLI::PositiveNumber);
}

void add_prefill_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--tokens", options.num_tokens, "of the measured chunk")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--step-tokens", options.step_tokens, "tokens of one step of the engine")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_flag("--whole", options.is_whole, "prefill each depth really, from token 0; no warm-up");
}

void add_decode_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--batch", options.batch_sizes, "sequences per step, a list")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->default_str("1");
  app.add_option("--steps", options.num_steps, "tokens of each sequence per repetition")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_flag("--no-decode-graphs", options.no_decode_graphs,
               "a GPU gets the operations of a step one by one, not as a CUDA graph");
}

void add_output_option(CLI::App& app, BenchOptions& options) {
  app.add_option("--output", options.output, "table or json")
      ->transform(
          one_of<OutputFormat>({{"table", OutputFormat::kTable}, {"json", OutputFormat::kJson}}))
      ->default_str("table");
}

void add_serve_options(CLI::App& app, ServeOptions& serve) {
  app.add_option("--host", serve.host, "of the running server")->capture_default_str();
  app.add_option("--port", serve.port, "of its HTTP")->capture_default_str();
  app.add_option("--api-key", serve.api_key, "sent as a bearer token");
  app.add_option("--model", serve.model, "name in the request, where the server asks for one");
  app.add_option("--streams", serve.num_streams, "requests open at once, a list")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->default_str("1,8");
  app.add_option("--requests", serve.requests_per_stream, "of each stream, one after the other")
      ->check(CLI::Range(1, 4095))
      ->capture_default_str();
  app.add_option("--prompt-words", serve.prompt_words, "random words of each prompt")
      ->check(CLI::Range(1, 1 << 22))
      ->capture_default_str();
  app.add_option("--max-tokens", serve.max_tokens, "tokens of each answer")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--background-prefill", serve.background_prefill,
                 "tokens of one more prompt that is read while the streams ask; 0: none")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  app.add_option("--seed", serve.seed, "of the prompts")->capture_default_str();
}

void finish(BenchOptions& options, const CLI::App& mode) {
  if (options.is_whole) {
    if (mode.count("--repetitions") == 0) options.num_repetitions = 1;
    if (std::ranges::find(options.depths, 0) != options.depths.end()) {
      throw CommandLineExit{kBadSettings, "--whole: --depth must be at least 1"};
    }
  }
  if (mode.count("--model") > 0 && mode.count("--shape") > 0) {
    throw CommandLineExit{kBadSettings, "--model and --shape exclude each other"};
  }
}

}  // namespace

BenchOptions parse_command_line(int argc, const char* const* argv) {
  BenchOptions options;
  CLI::App app("Measures Quire's model steps: time, FLOP/s, bytes/s and their share of the floor.",
               "quire-bench");
  app.set_version_flag("--version", "quire-bench " QUIRE_VERSION " (" QUIRE_COMMIT ")");
  app.require_subcommand(1);
  CLI::App* prefill = app.add_subcommand("prefill", kPrefillHelp);
  CLI::App* decode = app.add_subcommand("decode", kDecodeHelp);
  CLI::App* serve = app.add_subcommand("serve", kServeHelp);
  for (CLI::App* mode : {prefill, decode}) {
    add_model_options(*mode, options);
    add_run_options(*mode, options);
  }
  for (CLI::App* mode : {prefill, decode, serve}) add_output_option(*mode, options);
  add_serve_options(*serve, options.serve);
  add_prefill_options(*prefill, options);
  add_decode_options(*decode, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, complaint;
    const bool is_success = app.exit(error, out, complaint) == 0;
    std::string text = is_success ? out.str() : complaint.str();
    while (text.ends_with('\n')) text.pop_back();
    throw CommandLineExit{is_success ? 0 : kBadSettings, text};
  }
  if (serve->parsed()) {
    options.mode = BenchMode::kServe;
  } else {
    options.mode = decode->parsed() ? BenchMode::kDecode : BenchMode::kPrefill;
    finish(options, decode->parsed() ? *decode : *prefill);
  }
  return options;
}

}  // namespace quire::bench
