#include "models/weights/weight_store.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <system_error>
#include <utility>

#include "kernels/check.h"
#include "kernels/quant/block_format.h"
#include "models/strict_json.h"
#include "models/weights/find_gguf.h"
#include "models/weights/rounding.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr int kMaxIndexDepth = 8;
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kFp8 = "F8_E4M3";
constexpr std::string_view kWeightSuffix = ".weight";

/// The name a dtype has in a safetensors header.
std::string_view stored_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kF64:
      return "F64";
    case DType::kI8:
      return "I8";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
  }
  return "?";
}

/// Whether floats of one kind are wanted as another: rounded to bf16, or widened to f32.
bool is_converted(std::string_view stored, DType wanted) {
  if (wanted == DType::kF32) return stored == "F16" || stored == "BF16";
  return wanted == DType::kBF16 && (stored == "F16" || stored == "F32");
}

/// Number `index` of a tensor of scales; nothing for a dtype that scales do not have.
std::optional<float> read_scale(const SafetensorsEntry& scales, size_t index) {
  const auto read = [&](auto number) {
    std::memcpy(&number, scales.data.data() + index * sizeof number, sizeof number);
    return number;
  };
  if (scales.dtype == "F32") return read(float{});
  if (scales.dtype == "BF16") return to_float(read(BFloat16{}));
  if (scales.dtype == "F16") return float16_to_float(read(uint16_t{}));
  return std::nullopt;
}

/// Takes the whole pages of a mapped range out of memory. Whoever reads them again gets them from
/// the file again.
void give_back_pages(std::span<const std::byte> mapped) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(mapped.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(mapped.data() + mapped.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

/// A shard must be a file of the model folder itself: whoever publishes an index must not choose
/// what else is read from the machine.
bool is_plain_file_name(std::string_view name) {
  return name.size() > kSuffix.size() && name.ends_with(kSuffix) && name.front() != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

WeightStore::WeightStore(const std::filesystem::path& model, std::optional<Fp8Scheme> fp8)
    : model_dir_(model), fp8_(std::move(fp8)) {
  if (const auto gguf = find_gguf(model)) {
    gguf_ = std::make_unique<GgufWeights>(*gguf);
    return;
  }
  const auto single_path = model / "model.safetensors";
  const auto index_path = model / "model.safetensors.index.json";
  std::error_code error;
  if (std::filesystem::exists(single_path, error)) {
    files_.push_back(std::make_unique<SafetensorsFile>(single_path));
    for (const auto& [name, entry] : files_.back()->entries()) {
      tensors_.emplace(name, Location{files_.back().get(), &entry});
    }
  } else if (std::filesystem::exists(index_path, error)) {
    load_shards(model, index_path);
  } else {
    throw LoadError(
        model.string() +
        ": neither model.safetensors nor model.safetensors.index.json nor a .gguf file");
  }
}

void WeightStore::load_shards(const std::filesystem::path& model_dir,
                              const std::filesystem::path& index_path) {
  const std::string source = index_path.string();
  const Json root = parse_json(read_text_file(index_path, kMaxIndexBytes), source, kMaxIndexDepth);
  const JsonFields fields(root, source);
  const Json* weight_map = fields.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) {
    fields.fail("weight_map", "expected an object of tensor name to file name");
  }
  std::map<std::string, const SafetensorsFile*, std::less<>> opened;
  for (const auto& [name, value] : weight_map->items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    if (!is_plain_file_name(shard)) {
      fields.fail("weight_map",
                  "tensor " + describe_json(name) + " is said to be in " + describe_json(value) +
                      ", which is not the name of a .safetensors file of this folder");
    }
    auto [it, is_new] = opened.try_emplace(shard, nullptr);
    if (is_new) {
      files_.push_back(std::make_unique<SafetensorsFile>(model_dir / shard));
      it->second = files_.back().get();
    }
    const SafetensorsEntry* entry = it->second->find(name);
    if (entry == nullptr) {
      fields.fail("weight_map", "tensor " + describe_json(name) + " is not in " + shard);
    }
    tensors_.emplace(name, Location{it->second, entry});
  }
}

bool WeightStore::contains(std::string_view name) const {
  return gguf_ ? gguf_->contains(name) : tensors_.contains(name);
}

int64_t WeightStore::stored_bytes() const {
  if (gguf_) return gguf_->stored_bytes();
  int64_t num_bytes = 0;
  for (const auto& [name, location] : tensors_) {
    num_bytes += static_cast<int64_t>(location.entry->data.size());
  }
  return num_bytes;
}

int64_t WeightStore::stored_bytes(std::string_view name) const {
  if (gguf_) return gguf_->stored_bytes(name);
  return static_cast<int64_t>(tensors_.find(name)->second.entry->data.size());
}

ConstTensorView WeightStore::get(std::string_view name, DType dtype,
                                 std::initializer_list<int64_t> shape) {
  if (gguf_) {
    return gguf_->get(name, dtype, shape);
  }
  const Found found = find(name, dtype, shape);
  const void* data =
      found.scales.empty() ? lend(found.location, dtype) : lend_fp8(found.location, found.scales);
  return make_view(data, dtype, shape);
}

/// Throws LoadError unless there is a tensor of this name and shape that is or becomes `dtype`.
WeightStore::Found WeightStore::find(std::string_view name, DType dtype,
                                     std::initializer_list<int64_t> shape) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    throw LoadError(model_dir_.string() + ": missing tensor '" + std::string(name) +
                    "', expected " + std::string(stored_name(dtype)) + " " + describe_shape(shape));
  }
  const auto& [file, entry] = it->second;
  const bool same_shape =
      std::equal(shape.begin(), shape.end(), entry->shape.begin(), entry->shape.end());
  const std::string scales =
      dtype == DType::kBF16 ? fp8_scales_of(it->first, it->second) : std::string();
  if (!same_shape || (entry->dtype != stored_name(dtype) && !is_converted(entry->dtype, dtype) &&
                      scales.empty())) {
    throw LoadError(file->path().string() + ": tensor '" + std::string(name) + "': expected " +
                    std::string(stored_name(dtype)) + " " + describe_shape(shape) + ", actual " +
                    entry->dtype + " " + describe_shape(entry->shape));
  }
  return {it->second, scales};
}

/// The name of the tensor with the scales of a matrix in FP8; empty for any other tensor. Throws
/// LoadError if the folder contradicts itself there.
std::string WeightStore::fp8_scales_of(std::string_view name, const Location& location) const {
  if (!fp8_ || !name.ends_with(kWeightSuffix)) return {};
  const auto fail = [&](const std::string& what) {
    throw LoadError(location.file->path().string() + ": tensor '" + std::string(name) +
                    "': " + what);
  };
  const SafetensorsEntry& entry = *location.entry;
  const std::string scales = find_scales(name);
  if (entry.dtype != kFp8 || entry.shape.size() != 2) {
    if (scales.empty()) return {};
    fail("expected a matrix in F8_E4M3, as there is a '" + scales + "', actual " + entry.dtype +
         " " + describe_shape(entry.shape));
  }
  if (fp8_->plain_modules.contains(name.substr(0, name.size() - kWeightSuffix.size()))) {
    fail("expected BF16, as quantization_config says that it is not quantised, actual F8_E4M3");
  }
  if (const std::string zero = std::string(name) + "_zero_point"; tensors_.contains(zero)) {
    fail("expected no '" + zero + "', as quantization_config says \"symmetric\": true");
  }
  if (scales.empty()) {
    fail("missing tensor '" + std::string(name) + fp8_->scale_suffixes.front() + "'");
  }
  return scales;
}

/// The tensor of scales that there is for a matrix of that name, or an empty name.
std::string WeightStore::find_scales(std::string_view name) const {
  std::string found;
  for (const std::string& suffix : fp8_->scale_suffixes) {
    const std::string scales = std::string(name) + suffix;
    if (!tensors_.contains(scales)) continue;
    if (!found.empty()) {
      throw LoadError(model_dir_.string() + ": expected one tensor of scales, actual '" + found +
                      "' and '" + scales + "'");
    }
    found = scales;
  }
  return found;
}

/// `shape` is that of a tensor with one scale for each tile. A single one may be a scalar.
std::vector<float> WeightStore::read_scales(std::string_view name,
                                            const std::vector<int64_t>& shape) const {
  const auto& [file, entry] = tensors_.find(name)->second;
  const auto fail = [&, file = file](const std::string& expected, const std::string& actual) {
    throw LoadError(file->path().string() + ": tensor '" + std::string(name) + "': expected " +
                    expected + ", actual " + actual);
  };
  const bool is_single = shape == std::vector<int64_t>{1};
  if (entry->shape != shape && !(is_single && entry->shape.empty())) {
    fail(describe_shape(shape) + (is_single ? " or []" : ""),
         entry->dtype + " " + describe_shape(entry->shape));
  }
  size_t count = 1;
  for (const int64_t extent : shape) count *= static_cast<size_t>(extent);
  std::vector<float> scales(count);
  for (size_t i = 0; i < count; ++i) {
    const auto scale = read_scale(*entry, i);
    if (!scale) fail("F32, BF16 or F16", entry->dtype);
    if (!std::isfinite(*scale) || *scale < 0) {
      fail("finite scales that are not negative", std::to_string(*scale));
    }
    scales[i] = *scale;
  }
  return scales;
}

/// Memory of our own: `num_bytes` that `fill` makes of `stored`, whose pages are given back.
const void* WeightStore::lend_copy(std::span<const std::byte> stored, size_t num_bytes,
                                   const std::function<void(void*)>& fill) {
  Loan loan;
  loan.copy.resize((num_bytes + sizeof(int64_t) - 1) / sizeof(int64_t));
  void* copy = loan.copy.data();
  fill(copy);
  give_back_pages(stored);
  loans_.emplace(copy, std::move(loan));
  return copy;
}

/// A matrix in FP8 with the scales of the tensor of that name, which lie in `scales`.
Fp8Matrix WeightStore::fp8_matrix(const Location& location, std::string_view scales_name,
                                  std::vector<float>& scales) const {
  const SafetensorsEntry& entry = *location.entry;
  Fp8Matrix matrix{.codes = entry.data, .num_rows = entry.shape[0], .num_columns = entry.shape[1]};
  matrix.tile_rows = fp8_->scale_rows > 0 ? fp8_->scale_rows : matrix.num_rows;
  matrix.tile_columns = fp8_->scale_columns > 0 ? fp8_->scale_columns : matrix.num_columns;
  std::vector<int64_t> shape{matrix.num_row_tiles(), matrix.num_column_tiles()};
  if (fp8_->scale_rows == 0) shape = {1};
  scales = read_scales(scales_name, shape);
  matrix.scales = scales;
  return matrix;
}

/// The numbers of such a matrix, times its scales.
const void* WeightStore::lend_fp8(const Location& location, std::string_view scales_name) {
  std::vector<float> scales;
  const Fp8Matrix matrix = fp8_matrix(location, scales_name, scales);
  return lend_copy(matrix.codes, matrix.codes.size() * sizeof(BFloat16),
                   [&](void* copy) { widen_fp8(matrix, static_cast<BFloat16*>(copy)); });
}

/// The tensor's data in the mapped file, unless it is stored as another dtype or at an odd address
/// (files written by early versions of the format's library have headers of odd length).
const void* WeightStore::lend(const Location& location, DType dtype) {
  const std::span<const std::byte> stored = location.entry->data;
  const bool is_stored = location.entry->dtype == stored_name(dtype);
  const auto element = static_cast<size_t>(element_bytes(dtype));
  if (is_stored && reinterpret_cast<uintptr_t>(stored.data()) % element == 0) {
    loans_.emplace(stored.data(), Loan{.file = location.file, .mapped = stored});
    return stored.data();
  }
  const size_t stored_element = location.entry->dtype == "F32" ? sizeof(float) : sizeof(BFloat16);
  const size_t num_bytes = is_stored ? stored.size() : stored.size() / stored_element * element;
  return lend_copy(stored, num_bytes, [&](void* copy) {
    if (is_stored) {
      std::memcpy(copy, stored.data(), num_bytes);
      return;
    }
    if (dtype == DType::kF32) {
      const auto widen = location.entry->dtype == "F16" ? widen_f16 : widen_bf16;
      widen(stored, static_cast<float*>(copy));
      return;
    }
    const auto round = location.entry->dtype == "F32" ? round_f32 : round_f16;
    round(stored, static_cast<BFloat16*>(copy));
    rounded_.insert(location.entry->dtype);
  });
}

void WeightStore::release(const ConstTensorView& view) {
  if (gguf_) return gguf_->release(view);
  const auto it = loans_.find(view.data);
  QUIRE_CHECK(it != loans_.end()) << "a view that the store has not given";
  give_back_pages(it->second.mapped);
  loans_.erase(it);
}

void WeightStore::finish_loading() {
  if (gguf_) gguf_->finish_loading();
  tensors_.clear();
  std::erase_if(files_, [this](const std::unique_ptr<SafetensorsFile>& file) {
    return std::none_of(loans_.begin(), loans_.end(),
                        [&](const auto& loan) { return loan.second.file == file.get(); });
  });
}

std::string WeightStore::rounded_dtypes() const {
  std::string names;
  for (const std::string& name : gguf_ ? gguf_->rounded_types() : rounded_)
    names += (names.empty() ? "" : ", ") + name;
  return names;
}

std::optional<BlockMatrix> WeightStore::blocks(std::string_view name,
                                               std::initializer_list<int64_t> shape) {
  return gguf_ ? gguf_->blocks(name, shape) : std::nullopt;
}

void WeightStore::release_blocks() {
  if (gguf_) gguf_->release_blocks();
}

std::optional<Fp8Matrix> WeightStore::fp8(std::string_view name,
                                          std::initializer_list<int64_t> shape) {
  if (!fp8_) return std::nullopt;
  const Found found = find(name, DType::kBF16, shape);
  if (found.scales.empty()) return std::nullopt;
  LentFp8& lent = lent_fp8_.emplace_back();
  const Fp8Matrix matrix = fp8_matrix(found.location, found.scales, lent.scales);
  lent.codes = matrix.codes;
  return matrix;
}

void WeightStore::release_fp8() {
  for (const LentFp8& lent : lent_fp8_) give_back_pages(lent.codes);
  lent_fp8_.clear();
}

std::string_view WeightStore::stored_type(std::string_view name) const {
  return gguf_ ? gguf_->stored_type(name) : tensors_.find(name)->second.entry->dtype;
}

}  // namespace quire
