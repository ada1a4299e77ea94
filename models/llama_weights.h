#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/model.h"
#include "models/weights/weight_store.h"

namespace quire {

/// The weights of one layer in the backend's memory. Projections that read the same input are one
/// matrix: fewer, larger products. What an architecture does not have is without data.
struct LlamaLayer {
  TensorView attention_norm;             // [hidden_size] bf16
  std::unique_ptr<PackedWeight> qkv;     // [(num_heads + 2 * num_kv_heads) * head_dim, hidden_size]
  std::unique_ptr<PackedWeight> output;  // [hidden_size, num_heads * head_dim]
  TensorView mlp_norm;                   // [hidden_size] bf16
  std::unique_ptr<PackedWeight> gate_up;  // [2 * intermediate_size, hidden_size]
  std::unique_ptr<PackedWeight> down;     // [hidden_size, intermediate_size]
  TensorView qkv_bias, output_bias, gate_up_bias, down_bias;  // [rows of the weight] bf16
  TensorView query_norm, key_norm;                            // [head_dim] bf16
};

/// All weights of a model of the Llama family, by Hugging Face's tensor names. Throws LoadError for
/// a tensor that is missing or of another shape. The backend must outlive it.
class LlamaWeights {
 public:
  LlamaWeights(const ModelConfig& config, std::unique_ptr<WeightStore> store, WeightFormat format,
               Backend& backend, const LoadOptions& options);

  const TensorView& embedding() const { return embedding_; }    // [vocab_size, hidden_size] bf16
  const PackedWeight& lm_head() const { return *lm_head_; }     // [vocab_size, hidden_size]
  const TensorView& final_norm() const { return final_norm_; }  // [hidden_size] bf16
  const LlamaLayer& layer(int32_t index) const { return layers_[static_cast<size_t>(index)]; }
  size_t num_layers() const { return layers_.size(); }
  /// As the backend multiplies them.
  int64_t num_bytes() const { return num_bytes_; }
  /// Model::weight_types.
  std::string types() const;

 private:
  static constexpr const char* kFp8Type = "F8_E4M3";

  struct Vector {
    std::string name;
    int64_t width;
  };
  /// A matrix of the file.
  struct Matrix {
    std::string name;
    int64_t num_rows;
    int64_t num_columns;
  };

  bool is_fp8() const {
    return widened_types_.contains(kFp8Type) || kept_types_.contains(kFp8Type);
  }
  bool has_head_of_its_own();
  void load_embedding_and_head();
  void load_layer(int32_t index);
  void load_attention(const std::string& prefix, LlamaLayer& layer);
  void load_mlp(const std::string& prefix, LlamaLayer& layer);
  ConstTensorView get(const std::string& name, std::initializer_list<int64_t> shape);
  TensorView upload(const ConstTensorView& host);
  TensorView upload(const std::string& name, std::initializer_list<int64_t> shape);
  TensorView upload_joined(std::initializer_list<Vector> parts);
  std::unique_ptr<PackedWeight> pack(std::initializer_list<Matrix> matrices);
  void report_read(const std::string& name);
  std::unique_ptr<PackedWeight> pack_blocks(std::initializer_list<Matrix> matrices);
  std::unique_ptr<PackedWeight> pack_fp8(std::initializer_list<Matrix> matrices);

  const ModelConfig& config_;
  std::unique_ptr<WeightStore> store_;  // a packed weight may read the mapped file
  WeightFormat format_;
  DType dtype_;  // of what is read: bf16, or f32 with format kFloat32
  bool keep_fp8_;
  std::function<void(int64_t, int64_t)> progress_;  // only while this is built
  int64_t read_bytes_ = 0;
  std::set<std::string> read_names_;  // whose bytes are counted
  Backend& backend_;
  int64_t num_bytes_ = 0;
  std::set<std::string> kept_types_;     // of matrices that are multiplied as they are stored
  std::set<std::string> widened_types_;  // of those that became dtype_
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  TensorView embedding_, final_norm_;
  std::unique_ptr<PackedWeight> lm_head_;
  std::vector<LlamaLayer> layers_;
};

}  // namespace quire
