// Prefill and decode of a llama.cpp or ik_llama.cpp behind a context of any depth, without
// computing that context. Built by build_peer_depth.sh against the peer's tree, not by Quire's.
//
// 512 tokens are computed once, and the state of their sequence is restored into the cache again
// and again, each copy added to the same sequence. All copies have the positions 0..511; the
// measured tokens follow from 512 on, so the causal mask lets them see every cell, as in a real
// context of that depth. What is computed depends on the number of visible cells, not on their
// positions; no key has to be rotated.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama.h"

namespace {

constexpr int32_t kCopyTokens = 512;

// The two libraries have parted; this is all that differs for us.
#ifdef PEER_IK
using Cache = llama_context*;
Cache cache_of(llama_context* context) { return context; }
void share(Cache cache, int from, int to) { llama_kv_cache_seq_cp(cache, from, to, -1, -1); }
void remove(Cache cache, int seq, int begin) { llama_kv_cache_seq_rm(cache, seq, begin, -1); }
size_t state_size(llama_context* c) { return llama_state_seq_get_size(c, 0, 0); }
size_t save(llama_context* c, std::vector<uint8_t>& state) {
  return llama_state_seq_get_data(c, state.data(), state.size(), 0, 0);
}
size_t restore(llama_context* c, const std::vector<uint8_t>& state) {
  return llama_state_seq_set_data(c, state.data(), state.size(), 1, 0);
}
void use_flash_attention(llama_context_params& p) { p.flash_attn = true; }
int32_t vocabulary_size(const llama_model* model) { return llama_n_vocab(model); }
int32_t tokenize(const llama_model* model, const std::string& text, std::vector<llama_token>& ids) {
  return llama_tokenize(model, text.data(), static_cast<int32_t>(text.size()), ids.data(),
                        static_cast<int32_t>(ids.size()), true, false);
}
void repack(llama_model_params& p) { p.repack_tensors = true; }
#else
using Cache = llama_memory_t;
Cache cache_of(llama_context* context) { return llama_get_memory(context); }
void share(Cache cache, int from, int to) { llama_memory_seq_cp(cache, from, to, -1, -1); }
void remove(Cache cache, int seq, int begin) { llama_memory_seq_rm(cache, seq, begin, -1); }
size_t state_size(llama_context* c) { return llama_state_seq_get_size(c, 0); }
size_t save(llama_context* c, std::vector<uint8_t>& state) {
  return llama_state_seq_get_data(c, state.data(), state.size(), 0);
}
size_t restore(llama_context* c, const std::vector<uint8_t>& state) {
  return llama_state_seq_set_data(c, state.data(), state.size(), 1);
}
void use_flash_attention(llama_context_params& p) {
  p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  p.kv_unified = true;
}
int32_t vocabulary_size(const llama_model* model) {
  return llama_vocab_n_tokens(llama_model_get_vocab(model));
}
int32_t tokenize(const llama_model* model, const std::string& text, std::vector<llama_token>& ids) {
  return llama_tokenize(llama_model_get_vocab(model), text.data(),
                        static_cast<int32_t>(text.size()), ids.data(),
                        static_cast<int32_t>(ids.size()), true, false);
}
void repack(llama_model_params&) { throw std::runtime_error("--repack: ik_llama.cpp only"); }
#endif

struct Options {
  std::string model;
  std::vector<int32_t> depths = {0};
  int32_t prefill_tokens = 512;  // 0: no prefill is measured
  int32_t decode_steps = 0;
  int repetitions = 1;
  bool warms_up = true;
  int threads = 2;
  ggml_type kv_type = GGML_TYPE_F16;
  bool repacks = false;
  std::string text_file;  // measured instead: the tokenizer, on this text
};

std::string json_list(const std::vector<double>& values) {
  std::string text;
  char number[32];
  for (const double value : values) {
    std::snprintf(number, sizeof(number), "%s%.6g", text.empty() ? "" : ", ", value);
    text += number;
  }
  return "[" + text + "]";
}

class PeerContext {
 public:
  PeerContext(llama_model* model, const Options& options)
      : options_(options), num_words_(vocabulary_size(model)) {
    llama_context_params p = llama_context_default_params();
    const int32_t deepest = *std::max_element(options.depths.begin(), options.depths.end());
    const int32_t measured = std::max(options.prefill_tokens, options.decode_steps);
    p.n_ctx = static_cast<uint32_t>((deepest + 2 * kCopyTokens + measured + 255) / 256 * 256);
    p.n_batch = p.n_ubatch = 512;
    p.n_seq_max = 2;
    p.n_threads = p.n_threads_batch = options.threads;
    p.type_k = p.type_v = options.kv_type;
    use_flash_attention(p);
    context_ = llama_init_from_model(model, p);
    if (context_ == nullptr) throw std::runtime_error("no context of that depth");
  }
  PeerContext(const PeerContext&) = delete;
  PeerContext& operator=(const PeerContext&) = delete;
  ~PeerContext() { llama_free(context_); }

  void fill_to(int32_t depth) {
    if (depth % kCopyTokens != 0 || depth < filled_) {
      throw std::runtime_error("--depth: ascending multiples of 512");
    }
    if (depth > 0 && filled_ == 0) {
      decode(kCopyTokens, 0);
      filled_ = kCopyTokens;
      state_.resize(state_size(context_));
      if (save(context_, state_) == 0) throw std::runtime_error("cannot save the state");
    }
    for (; filled_ < depth; filled_ += kCopyTokens) {
      if (restore(context_, state_) == 0) throw std::runtime_error("cannot restore the state");
      share(cache_of(context_), 1, 0);
      remove(cache_of(context_), 1, -1);
    }
  }

  /// Seconds of each repetition of `num_tokens` tokens, in calls of `step` tokens. The warm-up
  /// takes a second at least: threads and clocks have settled then.
  std::vector<double> measure(int32_t num_tokens, int32_t step) {
    for (double warm = 0; options_.warms_up && warm < 1;) warm += run_once(num_tokens, step);
    std::vector<double> seconds;
    for (int run = 0; run < options_.repetitions; ++run) {
      seconds.push_back(run_once(num_tokens, step));
    }
    return seconds;
  }

 private:
  double run_once(int32_t num_tokens, int32_t step) {
    const int32_t begin = filled_ == 0 ? 0 : kCopyTokens;
    const auto start = std::chrono::steady_clock::now();
    for (int32_t done = 0; done < num_tokens; done += step) {
      decode(std::min(step, num_tokens - done), begin + done);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    remove(cache_of(context_), 0, begin);
    return took.count();
  }

  void decode(int32_t num_tokens, int32_t begin) {
    llama_batch batch = llama_batch_init(num_tokens, 0, 1);
    batch.n_tokens = num_tokens;
    for (int32_t i = 0; i < num_tokens; ++i) {
      batch.token[i] = std::rand() % num_words_;
      batch.pos[i] = begin + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = i + 1 == num_tokens;
    }
    const int status = llama_decode(context_, batch);
    llama_batch_free(batch);
    if (status != 0) throw std::runtime_error("llama_decode: " + std::to_string(status));
    llama_synchronize(context_);
  }

  const Options& options_;
  int32_t num_words_;
  llama_context* context_ = nullptr;
  int32_t filled_ = 0;
  std::vector<uint8_t> state_;
};

std::string measure_steps(llama_model* model, const Options& options) {
  PeerContext context(model, options);
  std::string results;
  const auto add = [&](const char* mode, int32_t depth, int32_t num_tokens, int32_t step) {
    const std::string seconds = json_list(context.measure(num_tokens, step));
    results += (results.empty() ? "" : ",\n  ") + std::string("{\"mode\": \"") + mode +
               "\", \"depth\": " + std::to_string(depth) +
               ", \"tokens\": " + std::to_string(num_tokens) + ", \"seconds\": " + seconds + "}";
  };
  for (const int32_t depth : options.depths) {
    context.fill_to(depth);
    if (options.prefill_tokens > 0) add("prefill", depth, options.prefill_tokens, 512);
    if (options.decode_steps > 0) add("decode", depth, options.decode_steps, 1);
  }
  return results;
}

std::string measure_tokenizer(const llama_model* model, const Options& options) {
  std::ifstream file(options.text_file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty()) throw std::runtime_error("cannot read " + options.text_file);
  std::vector<llama_token> ids(text.size() + 8);
  std::vector<double> seconds;
  int32_t num_tokens = 0;
  for (int run = 0; run < options.repetitions; ++run) {
    const auto start = std::chrono::steady_clock::now();
    num_tokens = tokenize(model, text, ids);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    seconds.push_back(took.count());
  }
  return "{\"mode\": \"tokenize\", \"bytes\": " + std::to_string(text.size()) +
         ", \"tokens\": " + std::to_string(num_tokens) + ", \"seconds\": " + json_list(seconds) +
         "}";
}

Options parse(int argc, char** argv) {
  std::map<std::string, std::string> flags;
  for (int i = 1; i + 1 < argc; i += 2) flags[argv[i]] = argv[i + 1];
  Options options;
  const auto number = [&](const char* flag, int fallback) {
    return flags.count(flag) != 0 ? std::stoi(flags[flag]) : fallback;
  };
  options.model = flags["--model"];
  options.text_file = flags["--tokenize"];
  options.prefill_tokens = number("--tokens", options.prefill_tokens);
  options.decode_steps = number("--steps", options.decode_steps);
  options.repetitions = number("--repetitions", options.repetitions);
  options.warms_up = number("--warm-up", 1) != 0;
  options.threads = number("--threads", options.threads);
  options.repacks = number("--repack", 0) != 0;
  if (flags.count("--kv") != 0) {
    const std::map<std::string, ggml_type> types = {
        {"f16", GGML_TYPE_F16}, {"bf16", GGML_TYPE_BF16}, {"q8_0", GGML_TYPE_Q8_0}};
    options.kv_type = types.at(flags["--kv"]);
  }
  if (flags.count("--depth") != 0) {
    options.depths.clear();
    std::istringstream list(flags["--depth"]);
    for (std::string word; std::getline(list, word, ',');) {
      options.depths.push_back(std::stoi(word));
    }
  }
  return options;
}

void run(const Options& options) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  llama_model_params p = llama_model_default_params();
  p.n_gpu_layers = 0;
  p.vocab_only = !options.text_file.empty();
  if (options.repacks) repack(p);
  llama_model* model = llama_model_load_from_file(options.model.c_str(), p);
  if (model == nullptr) throw std::runtime_error("cannot load " + options.model);
  const std::string results =
      options.text_file.empty() ? measure_steps(model, options) : measure_tokenizer(model, options);
  std::printf("{\"tool\": \"peer_depth\", \"threads\": %d, \"results\": [\n  %s\n]}\n",
              options.threads, results.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "peer_depth: %s\n", error.what());
    return 1;
  }
}
