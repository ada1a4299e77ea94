// Bytes per second of byte pair encoding, on one thread. QUIRE_BENCH_TOKENIZER names a
// tokenizer.json; without it the tokenizer is a tiny one of the tests (500 tokens, Llama 3's
// pattern), which makes more tokens of a text than a real one does. QUIRE_BENCH_TEXT and
// QUIRE_BENCH_CODE name texts; without them they are prose and code that come with Debian's Python.
// CPU time is what to read where the machine is shared.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "engine/text/bpe/bpe_tokenizer.h"
#include "engine/text/bpe/tokenizer_json.h"
#include "models/strict_json.h"
#include "tests/bench/bench_text.h"

namespace quire {
namespace {

constexpr size_t kTextBytes = 10'000'000;
constexpr size_t kMaxJsonBytes = size_t{128} << 20;

std::string tokenizer_json() {
  if (const char* named = std::getenv("QUIRE_BENCH_TOKENIZER")) {
    return read_text_file(named, kMaxJsonBytes);
  }
  const auto golden = nlohmann::json::parse(
      read_text_file(QUIRE_SOURCE_DIR "/tests/engine/data/bpe_golden.json", kMaxJsonBytes));
  return golden.at("cases").at(0).at("tokenizer").dump();
}

std::unique_ptr<BpeTokenizer> make_tokenizer() {
  static const std::string json = tokenizer_json();
  return std::make_unique<BpeTokenizer>(read_tokenizer_json(json, "tokenizer.json"),
                                        "tokenizer.json");
}

std::string prose() {
  return bench::bench_text("QUIRE_BENCH_TEXT", "/usr/lib/python3.11/pydoc_data/topics.py",
                           kTextBytes);
}

std::string code() {
  return bench::bench_text("QUIRE_BENCH_CODE", "/usr/lib/python3.11/typing.py", kTextBytes);
}

std::string one_letter() { return std::string(kTextBytes, 'e'); }

/// One word whose letters are as frequent as in English, and otherwise random.
std::string one_word() {
  constexpr std::string_view kLetters = "eeeeettttaaaooiinnsshhrdlucmfwypvbgkqjxz";
  std::mt19937 random(1);
  std::string text(kTextBytes, ' ');
  for (char& c : text) c = kLetters[random() % kLetters.size()];
  return text;
}

/// A tokenizer remembers words; this one has seen none of the text.
void bpe_encode_unseen(benchmark::State& state, std::string (*make_text)()) {
  const std::string text = make_text();
  if (text.empty()) return state.SkipWithError("no text: set QUIRE_BENCH_TEXT, QUIRE_BENCH_CODE");
  size_t num_ids = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const auto tokenizer = make_tokenizer();
    state.ResumeTiming();
    num_ids = tokenizer->encode(text).size();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
  state.counters["bytes_per_token"] =
      static_cast<double>(text.size()) / static_cast<double>(num_ids);
}
BENCHMARK_CAPTURE(bpe_encode_unseen, prose, prose)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bpe_encode_unseen, code, code)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bpe_encode_unseen, one_letter, one_letter)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bpe_encode_unseen, one_word, one_word)->Unit(benchmark::kMillisecond);

void bpe_decode(benchmark::State& state) {
  const auto tokenizer = make_tokenizer();
  const std::vector<TokenId> tokens = tokenizer->encode(prose());
  if (tokens.empty()) return state.SkipWithError("no text: set QUIRE_BENCH_TEXT");
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->decode(tokens, true));
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * tokens.size()));
}
BENCHMARK(bpe_decode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace quire
