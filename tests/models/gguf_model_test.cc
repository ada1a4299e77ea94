// A GGUF file is another spelling of a folder: the same numbers give the same logits.

#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend_registry.h"
#include "kernels/quant/block_format.h"
#include "models/gguf_config.h"
#include "models/weights/find_gguf.h"
#include "models/weights/weight_store.h"
#include "tests/models/gguf_folder.h"
#include "tests/models/model_driver.h"
#include "tests/models/model_folder.h"
#include "tests/support/without_instructions.h"

namespace quire::test {
namespace {

using Catch::Matchers::Contains;

const MobaConfig kMoba{.block_size = 4, .top_k = 3};

std::vector<float> logits_of(const std::filesystem::path& model, const std::string& backend,
                             WeightFormat weights = WeightFormat::kOriginal) {
  ModelDriver driver(model, backend, kMoba, {.weights = weights});
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 50; ++i) tokens.push_back((i * i * 5 + i * 7) % kTinyVocab);
  return driver.prefill(driver.add_sequence(), tokens, 50, kMoba);
}

ModelConfig config_of(const std::string& bytes) {
  return parse_gguf_config(parse_gguf(std::as_bytes(std::span(bytes)), "w"));
}

std::string error_of(const GgufBuilder& builder) {
  return load_error_of([&] { config_of(builder.bytes()); });
}

TEST_CASE("a GGUF file gives the logits of the folder with the same numbers") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder folder, gguf;
  folder.write("config.json", tiny_config());
  folder.write("model.safetensors", safetensors_bytes(tiny_tensors()));
  const std::vector<float> expected = logits_of(folder.path(), backend);
  for (const GgufType type : {GgufType::kBF16, GgufType::kF32, GgufType::kF16}) {
    CAPTURE(gguf_type_name(type));
    gguf.write("tiny.gguf", tiny_gguf(type).bytes());
    CHECK(logits_of(gguf.path() / "tiny.gguf", backend) == expected);
    CHECK(logits_of(gguf.path(), backend) == expected);  // the only one of its folder
  }
}

TEST_CASE("a GGUF file in f32 gives the logits of the folder in f32") {
  const TemporaryFolder folder, gguf;
  folder.write("config.json", tiny_config());
  folder.write("model.safetensors", safetensors_bytes(tiny_tensors(), "F32"));
  const auto expected = logits_of(folder.path(), "reference", WeightFormat::kFloat32);
  CHECK(expected != logits_of(folder.path(), "reference"));
  for (const GgufType type : {GgufType::kBF16, GgufType::kF32, GgufType::kF16}) {
    CAPTURE(gguf_type_name(type));
    gguf.write("tiny.gguf", tiny_gguf(type).bytes());
    CHECK(logits_of(gguf.path(), "reference", WeightFormat::kFloat32) == expected);
  }
}

TEST_CASE("a GGUF tensor that the model has no place for is refused by name") {
  const std::string name = GENERATE("blk.2.attn_norm.weight", "blk.1.attn_q_norm.weight",
                                    "blk.0.attn_output.bias", "blk.1.attn_q.bias");
  CAPTURE(name);
  const TemporaryFolder folder;
  GgufBuilder builder = tiny_gguf(GgufType::kBF16);
  builder.add_tensor(name, GgufType::kF32, {16}, std::string(64, '\0'));
  folder.write("tiny.gguf", builder.bytes());
  const auto backend = make_backend("cpu");
  CHECK_THAT(load_error_of([&] { load_model(folder.path(), *backend); }),
             Contains("tiny.gguf: tensor \"" + name + "\" has no place in this model"));
}

TEST_CASE("a GGUF's metadata becomes the configuration of the folder") {
  const ModelConfig config = config_of(tiny_gguf(GgufType::kBF16).bytes());
  const ModelConfig expected = parse_model_config(tiny_config(), "config.json");
  CHECK(config.architecture == expected.architecture);
  CHECK(config.vocab_size == expected.vocab_size);
  CHECK(config.hidden_size == expected.hidden_size);
  CHECK(config.intermediate_size == expected.intermediate_size);
  CHECK(config.num_layers == expected.num_layers);
  CHECK(config.num_heads == expected.num_heads);
  CHECK(config.num_kv_heads == expected.num_kv_heads);
  CHECK(config.head_dim == expected.head_dim);
  CHECK(config.rms_norm_eps == expected.rms_norm_eps);
  CHECK(config.rope.theta == expected.rope.theta);
  CHECK(config.max_position_embeddings == expected.max_position_embeddings);
  CHECK(config.tie_word_embeddings);
  CHECK(config.eos_token_ids == expected.eos_token_ids);
  CHECK_FALSE(config.moba);
}

TEST_CASE("a GGUF with a head of its own, several ends and a moba section says so") {
  GgufBuilder builder = tiny_gguf(GgufType::kBF16);
  builder.add_tensor("output.weight", GgufType::kF16, {kTinyVocab, 16},
                     std::string(size_t{2} * kTinyVocab * 16, '\0'));
  builder.add_u32("tokenizer.ggml.bos_token_id", 1)
      .add_u32("tokenizer.ggml.eot_token_id", 5)
      .add_u32("tokenizer.ggml.eom_token_id", 2)
      .add_text("quire.moba", R"({"block_size": 16, "top_k": 3})");
  const ModelConfig config = config_of(builder.bytes());
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK(config.bos_token_id == 1);
  CHECK(config.eos_token_ids == std::vector<int32_t>{2, 5});
  REQUIRE(config.moba);
  CHECK(config.moba->block_size == 16);
}

TEST_CASE("what would change a GGUF's mathematics is refused by key or tensor") {
  const auto with_text = [](std::string_view key, std::string_view value) {
    return error_of(tiny_gguf_metadata().add_text(key, value));
  };
  CHECK(error_of(tiny_gguf_metadata()) == "");
  CHECK_THAT(error_of(GgufBuilder()), Contains("'general.architecture': missing"));
  CHECK_THAT(error_of(GgufBuilder().add_text("general.architecture", "mamba")),
             Contains("unknown architecture \"mamba\"; known: llama, qwen2, qwen3"));
  CHECK_THAT(error_of(GgufBuilder().add_text("general.architecture", "llama")),
             Contains("w: metadata 'llama.attention.head_count': missing"));
  CHECK_THAT(error_of(tiny_gguf_metadata().add_f32("llama.logit_scale", 0.5f)),
             Contains("'llama.logit_scale': is not supported"));
  CHECK_THAT(error_of(tiny_gguf_metadata().add_u32("llama.expert_count", 8)),
             Contains("'llama.expert_count': 8 is not in [0, 0]"));
  CHECK_THAT(with_text("llama.rope.scaling.type", "linear"),
             Contains("'llama.rope.scaling.factor': missing"));
  CHECK_THAT(with_text("quire.moba", "{"), Contains("quire.moba"));
  for (const std::string name : {"blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "extra"}) {
    CHECK_THAT(
        error_of(tiny_gguf_metadata().add_tensor(name, GgufType::kF32, {1}, std::string(4, '\0'))),
        Contains("tensor \"" + name + "\" is not supported"));
  }
}

TEST_CASE("heads whose values or rotation are of another size are refused") {
  const auto error_with = [](std::string_view key) {
    GgufBuilder builder;
    builder.add_text("general.architecture", "llama")
        .add_u32("llama.embedding_length", 16)
        .add_u32("llama.block_count", 2)
        .add_u32("llama.feed_forward_length", 40)
        .add_u32("llama.context_length", 64)
        .add_u32("llama.attention.head_count", 4);
    return error_of(builder.add_u32(key, 2));
  };
  for (const std::string key : {"llama.rope.dimension_count", "llama.attention.value_length"}) {
    CHECK_THAT(error_with(key), Contains("'" + key + "': 2 is not in [4, 4]"));
  }
}

TEST_CASE("stored RoPE factors divide the frequencies") {
  const std::vector<float> factors = {1.0f, 2.0f, 8.0f, 8.0f};
  const auto with = [](GgufType type, const std::vector<float>& values) {
    return tiny_gguf_metadata().add_tensor(
        "rope_freqs.weight", type, {static_cast<int64_t>(values.size())}, float_bytes(values));
  };
  const auto frequencies = [](const GgufBuilder& builder) {
    return rope_frequencies(config_of(builder.bytes()), 4096).inv_freq;
  };
  const std::vector<double> scaled = frequencies(with(GgufType::kF32, factors));
  const std::vector<double> plain = frequencies(tiny_gguf_metadata());
  REQUIRE(scaled.size() == 4);
  for (size_t i = 0; i < 4; ++i) CHECK(scaled[i] == plain[i] / static_cast<double>(factors[i]));

  CHECK_THAT(error_of(with(GgufType::kF32, {1, 1, 1})),
             Contains("'rope_freqs.weight': expected F32 [4], actual F32 [3]"));
  for (const float bad : {0.0f, -1.0f, NAN, INFINITY}) {
    CHECK_THAT(error_of(with(GgufType::kF32, {1, bad, 1, 1})),
               Contains("'rope_freqs.weight' holds"));
  }
}

TEST_CASE("quantised GGUF tensors become bf16 or f32, queries and keys in their halves") {
  constexpr int64_t kColumns = 64;
  std::string data;  // Q8_0: each row has its number as its scale
  for (int row = 0; row < 32; ++row) {
    for (int block = 0; block < 2; ++block) {
      ByteWriter writer;
      writer.number(static_cast<uint64_t>(row == 0 ? 0 : 0x3C00 + row), 2);
      for (int i = 0; i < 32; ++i) writer.number(static_cast<uint64_t>(i - 16 + block), 1);
      data += writer.bytes();
    }
  }
  const TemporaryFolder folder;
  folder.write("q.gguf",
               tiny_gguf_metadata()
                   .add_tensor("blk.0.attn_q.weight", GgufType::kQ8_0, {32, kColumns}, data)
                   .add_tensor("blk.0.attn_v.weight", GgufType::kQ8_0, {32, kColumns}, data)
                   .bytes());
  WeightStore store(folder.path());
  const ConstTensorView value =
      store.get("model.layers.0.self_attn.v_proj.weight", DType::kBF16, {32, kColumns});
  const ConstTensorView query =
      store.get("model.layers.0.self_attn.q_proj.weight", DType::kBF16, {32, kColumns});
  const ConstTensorView exact =
      store.get("model.layers.0.self_attn.q_proj.weight", DType::kF32, {32, kColumns});
  std::vector<float> widened(kColumns);
  for (int64_t row = 0; row < 32; ++row) {
    widen_blocks(BlockFormat::kQ8_0, reinterpret_cast<const std::byte*>(data.data()) + row * 68,
                 widened);
    // Four heads of 8: row 2i + j of a head is row i of its half j.
    const int64_t in_halves = row / 8 * 8 + row % 2 * 4 + row % 8 / 2;
    for (int64_t i = 0; i < kColumns; ++i) {
      const float number = widened[static_cast<size_t>(i)];
      const BFloat16 expected = to_bfloat16(number);
      REQUIRE(value.data_as<BFloat16>()[row * kColumns + i] == expected);
      REQUIRE(query.data_as<BFloat16>()[in_halves * kColumns + i] == expected);
      REQUIRE(exact.data_as<float>()[in_halves * kColumns + i] == number);
    }
  }
}

/// Blocks of random bits; their binary16 factors are about 2^-10 and of either sign.
std::string random_blocks(BlockFormat format, int64_t num_numbers, std::mt19937& random) {
  const BlockLayout layout = block_layout(format);
  std::string bytes(static_cast<size_t>(num_numbers / layout.num_elements * layout.num_bytes), 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  const bool has_minimum = format == BlockFormat::kQ4_K || format == BlockFormat::kQ5_K;
  for (size_t block = 0; block < bytes.size(); block += static_cast<size_t>(layout.num_bytes)) {
    for (size_t factor = 0; factor < (has_minimum ? 2u : 1u); ++factor) {
      const size_t at = block + 2 * factor + (format == BlockFormat::kQ6_K ? 208 : 0);
      bytes[at + 1] = static_cast<char>((random() & 0x83) | 0x14);
    }
  }
  return bytes;
}

struct StoredMatrix {
  std::string name;  // of Hugging Face
  int64_t num_rows, num_columns;
  GgufType type;
  BlockFormat format;
};

/// A matrix in every format, and several in what becomes one product.
const std::vector<StoredMatrix> kStored = {
    {"model.embed_tokens.weight", kTinyVocab, 256, GgufType::kQ8_0, BlockFormat::kQ8_0},
    {"model.layers.0.self_attn.q_proj.weight", 256, 256, GgufType::kQ4_K, BlockFormat::kQ4_K},
    {"model.layers.0.self_attn.k_proj.weight", 128, 256, GgufType::kQ8_0, BlockFormat::kQ8_0},
    {"model.layers.0.self_attn.v_proj.weight", 128, 256, GgufType::kQ6_K, BlockFormat::kQ6_K},
    {"model.layers.0.self_attn.o_proj.weight", 256, 256, GgufType::kQ5_K, BlockFormat::kQ5_K},
    {"model.layers.0.mlp.gate_proj.weight", 512, 256, GgufType::kQ4_0, BlockFormat::kQ4_0},
    {"model.layers.0.mlp.up_proj.weight", 512, 256, GgufType::kQ4_K, BlockFormat::kQ4_K},
    {"model.layers.0.mlp.down_proj.weight", 256, 512, GgufType::kQ6_K, BlockFormat::kQ6_K},
};
const std::vector<std::string> kStoredNorms = {"model.layers.0.input_layernorm.weight",
                                               "model.layers.0.post_attention_layernorm.weight",
                                               "model.norm.weight"};

/// The numbers of a GGUF's blocks as a tensor of a folder: bf16, queries and keys in halves.
NamedTensor as_folder_tensor(const StoredMatrix& matrix, const std::string& blocks) {
  NamedTensor tensor{matrix.name, {matrix.num_rows, matrix.num_columns}, {}};
  const bool is_paired = matrix.name.find("q_proj") != std::string::npos ||
                         matrix.name.find("k_proj") != std::string::npos;
  const int64_t row_bytes = block_row_bytes(matrix.format, matrix.num_columns);
  std::vector<float> row(static_cast<size_t>(matrix.num_columns));
  for (int64_t i = 0; i < matrix.num_rows; ++i) {
    const int64_t from = is_paired ? i / 64 * 64 + i % 32 * 2 + i % 64 / 32 : i;
    widen_blocks(matrix.format,
                 reinterpret_cast<const std::byte*>(blocks.data()) + from * row_bytes, row);
    for (const float value : row) tensor.values.push_back(to_bfloat16(value));
  }
  return tensor;
}

/// A model in blocks of random bits, and the bf16 folder with the blocks' numbers.
void write_model_in_blocks(const TemporaryFolder& gguf, const TemporaryFolder& folder) {
  std::mt19937 random(11);
  GgufBuilder builder;
  builder.add_text("general.architecture", "llama")
      .add_u32("llama.vocab_size", kTinyVocab)
      .add_u32("llama.context_length", 4096)
      .add_u32("llama.embedding_length", 256)
      .add_u32("llama.block_count", 1)
      .add_u32("llama.feed_forward_length", 512)
      .add_u32("llama.attention.head_count", 4)
      .add_u32("llama.attention.head_count_kv", 2)
      .add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  std::vector<NamedTensor> tensors;
  for (const StoredMatrix& matrix : kStored) {
    const std::string blocks =
        random_blocks(matrix.format, matrix.num_rows * matrix.num_columns, random);
    tensors.push_back(as_folder_tensor(matrix, blocks));
    builder.add_tensor(as_gguf_tensor(tensors.back(), 64).name, matrix.type, tensors.back().shape,
                       blocks);
  }
  for (const std::string& name : kStoredNorms) {
    tensors.push_back({name, {256}, std::vector<BFloat16>(256, to_bfloat16(1.25f))});
    builder.add_tensor(as_gguf_tensor(tensors.back(), 64).name, GgufType::kF32, {256},
                       bytes_as(GgufType::kF32, tensors.back().values));
  }
  gguf.write("q.gguf", builder.bytes());
  folder.write("model.safetensors", safetensors_bytes(tensors));
  folder.write("config.json", R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 24,
      "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1,
      "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
      "max_position_embeddings": 4096, "tie_word_embeddings": true})");
}

/// Of the model in blocks, where a backend keeps none.
const std::string kWidenedTypes =
    "Q4_0 as bf16, Q4_K as bf16, Q5_K as bf16, Q6_K as bf16, Q8_0 as bf16";

TEST_CASE("a model in blocks gives the logits of the folder with the blocks' numbers") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  const TemporaryFolder gguf, folder;
  write_model_in_blocks(gguf, folder);
  CHECK(logits_of(gguf.path(), backend) == logits_of(folder.path(), backend));

  const auto machine = make_backend(backend);
  CHECK(load_model(gguf.path(), *machine)->weight_types() ==
        (machine->keeps_blocks() ? "Q4_0, Q4_K, Q5_K, Q6_K, Q8_0" : kWidenedTypes));
  CHECK(load_model(folder.path(), *machine)->weight_types() == "bf16");
}

TEST_CASE("a model in blocks becomes bf16 on a CPU without AVX512_BF16, with the same numbers") {
  const TemporaryFolder gguf, folder;
  write_model_in_blocks(gguf, folder);
  const WithoutPanelDots without;
  const auto backend = make_backend("cpu");
  REQUIRE_FALSE(backend->keeps_blocks());
  const auto model = load_model(gguf.path(), *backend);
  CHECK(model->weight_types() == kWidenedTypes);
  CHECK(model->weight_bytes() == load_model(folder.path(), *backend)->weight_bytes());
  CHECK(logits_of(gguf.path(), "cpu") == logits_of(folder.path(), "cpu"));
}

/// A relative of the tiny model in a folder and as a GGUF, whose rows are in the folder's order.
void check_same_logits(const std::string& class_name, std::string_view architecture,
                       const std::vector<NamedTensor>& tensors, const std::string& backend) {
  const TemporaryFolder folder, gguf;
  std::string config = tiny_config();
  config.replace(config.find("LlamaForCausalLM"), 16, class_name);
  folder.write("config.json", config);
  folder.write("model.safetensors", safetensors_bytes(tensors));
  GgufBuilder builder = tiny_gguf_metadata(architecture);
  for (const NamedTensor& tensor : tensors) {
    constexpr int32_t kRowsAsTheyAre = 2;  // pairs of one row from each half are in order
    const NamedTensor stored = as_gguf_tensor(tensor, kRowsAsTheyAre);
    builder.add_tensor(stored.name, GgufType::kF32, stored.shape,
                       bytes_as(GgufType::kF32, stored.values));
  }
  gguf.write("tiny.gguf", builder.bytes());
  CHECK(logits_of(gguf.path(), backend) == logits_of(folder.path(), backend));
}

TEST_CASE("GGUF files of Qwen2 and Qwen3 give the logits of their folders") {
  const auto backend = GENERATE(from_range(available_backends()));
  CAPTURE(backend);
  std::mt19937 random(13);
  const auto vector_of = [&random](const std::string& name, int64_t width) {
    NamedTensor tensor{name, {width}, {}};
    for (int64_t i = 0; i < width; ++i) {
      tensor.values.push_back(to_bfloat16(static_cast<float>(random() % 64) / 64));
    }
    return tensor;
  };
  std::vector<NamedTensor> with_bias = tiny_tensors(), with_norms = tiny_tensors();
  for (const std::string layer : {"model.layers.0.self_attn.", "model.layers.1.self_attn."}) {
    with_bias.push_back(vector_of(layer + "q_proj.bias", 32));
    with_bias.push_back(vector_of(layer + "k_proj.bias", 16));
    with_bias.push_back(vector_of(layer + "v_proj.bias", 16));
    with_norms.push_back(vector_of(layer + "q_norm.weight", 8));
    with_norms.push_back(vector_of(layer + "k_norm.weight", 8));
  }
  check_same_logits("Qwen2ForCausalLM", "qwen2", with_bias, backend);
  check_same_logits("Qwen3ForCausalLM", "qwen3", with_norms, backend);
}

TEST_CASE("a GGUF's RoPE scaling is that of its keys") {
  const auto scaled = [](const char* type) {
    return config_of(tiny_gguf_metadata()
                         .add_text("llama.rope.scaling.type", type)
                         .add_f32("llama.rope.scaling.factor", 4.0f)
                         .add_u32("llama.rope.scaling.original_context_length", 1024)
                         .bytes());
  };
  CHECK(scaled("none").rope.type == RopeType::kDefault);
  CHECK(scaled("linear").rope.type == RopeType::kLinear);
  CHECK(scaled("linear").rope.factor == 4.0);
  CHECK(scaled("yarn").rope.type == RopeType::kYarn);
  CHECK(scaled("yarn").rope.original_positions == 1024);
  CHECK_THAT(load_error_of([&] { scaled("longrope"); }), Contains("w: "));
}

TEST_CASE("a GGUF without a tensor, or with another shape, is refused by its own names") {
  const TemporaryFolder folder;
  folder.write("t.gguf", tiny_gguf(GgufType::kF16).bytes());
  WeightStore store(folder.path());
  CHECK(store.contains("model.norm.weight"));
  CHECK_FALSE(store.contains("lm_head.weight"));
  CHECK_FALSE(store.contains("model.layers.x.mlp.up_proj.weight"));
  CHECK_THAT(load_error_of([&] {
               store.get("lm_head.weight", DType::kBF16, {24, 16});
             }),
             Contains("t.gguf: missing tensor 'output.weight', expected [24, 16]"));
  CHECK_THAT(load_error_of([&] {
               store.get("model.layers.1.mlp.up_proj.weight", DType::kBF16, {9, 16});
             }),
             Contains("tensor 'blk.1.ffn_up.weight': expected [9, 16], actual F16 [40, 16]"));
}

TEST_CASE("a folder's only GGUF is found, two are refused, safetensors come first") {
  const TemporaryFolder folder;
  CHECK_FALSE(find_gguf(folder.path()));
  folder.write("a.gguf", "x");
  CHECK(find_gguf(folder.path()) == folder.path() / "a.gguf");
  CHECK(find_gguf(folder.path() / "a.gguf") == folder.path() / "a.gguf");
  folder.write("b.gguf", "x");
  CHECK_THAT(load_error_of([&] { find_gguf(folder.path()); }),
             Contains("more than one .gguf file (a.gguf, b.gguf)"));
  folder.write("model.safetensors", "x");
  CHECK_FALSE(find_gguf(folder.path()));
  CHECK_FALSE(find_gguf(folder.path() / "absent"));
}

}  // namespace
}  // namespace quire::test
