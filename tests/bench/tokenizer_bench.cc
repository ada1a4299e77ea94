// Bytes per second of the bundled model's tokenizer on a long text. QUIRE_BENCH_TEXT names a file;
// without it the text is the prose that comes with Debian's Python.

#include <benchmark/benchmark.h>

#include <string>

#include "engine/text/sentencepiece_tokenizer.h"
#include "tests/bench/bench_text.h"

namespace quire {
namespace {

constexpr size_t kTextBytes = 4 << 20;

std::string long_text() {
  return bench::bench_text("QUIRE_BENCH_TEXT", "/usr/lib/python3.11/pydoc_data/topics.py",
                           kTextBytes);
}

const std::filesystem::path kModelFile = QUIRE_BUNDLED_MODEL "/tokenizer.model";

/// A tokenizer remembers words; this one has seen none of the text.
void encode_unseen(benchmark::State& state) {
  const std::string text = long_text();
  if (text.empty()) return state.SkipWithError("no text: set QUIRE_BENCH_TEXT");
  for (auto _ : state) {
    state.PauseTiming();
    const SentencePieceTokenizer tokenizer(kModelFile, static_cast<int>(state.range(0)));
    state.ResumeTiming();
    benchmark::DoNotOptimize(tokenizer.encode(text));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}
BENCHMARK(encode_unseen)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();

void encode_again(benchmark::State& state) {
  const SentencePieceTokenizer tokenizer(kModelFile, static_cast<int>(state.range(0)));
  const std::string text = long_text();
  if (text.empty()) return state.SkipWithError("no text: set QUIRE_BENCH_TEXT");
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(text));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}
BENCHMARK(encode_again)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();

void encode_in_one_library_call(benchmark::State& state) {
  const SentencePieceTokenizer tokenizer(kModelFile, 1);
  const std::string text = long_text();
  if (text.empty()) return state.SkipWithError("no text: set QUIRE_BENCH_TEXT");
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode_in_one_call(text));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}
BENCHMARK(encode_in_one_library_call)->UseRealTime();

void decode(benchmark::State& state) {
  const SentencePieceTokenizer tokenizer(kModelFile, 1);
  const auto tokens = tokenizer.encode(long_text());
  if (tokens.empty()) return state.SkipWithError("no text: set QUIRE_BENCH_TEXT");
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.decode(tokens, true));
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * tokens.size()));
}
BENCHMARK(decode)->UseRealTime();

}  // namespace
}  // namespace quire

BENCHMARK_MAIN();
