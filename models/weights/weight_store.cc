#include "models/weights/weight_store.h"

#include <cstring>
#include <system_error>
#include <utility>

#include "models/strict_json.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr int kMaxIndexDepth = 8;
constexpr std::string_view kSuffix = ".safetensors";

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

/// A shard must be a file of the model folder itself: whoever publishes an index must not choose
/// what else is read from the machine.
bool is_plain_file_name(std::string_view name) {
  return name.size() > kSuffix.size() && name.ends_with(kSuffix) && name.front() != '.' &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

WeightStore::WeightStore(const std::filesystem::path& model_dir) : model_dir_(model_dir) {
  const auto single_path = model_dir / "model.safetensors";
  const auto index_path = model_dir / "model.safetensors.index.json";
  std::error_code error;
  if (std::filesystem::exists(single_path, error)) {
    files_.push_back(std::make_unique<SafetensorsFile>(single_path));
    for (const auto& [name, entry] : files_.back()->entries()) {
      tensors_.emplace(name, Location{files_.back().get(), &entry});
    }
  } else if (std::filesystem::exists(index_path, error)) {
    load_shards(model_dir, index_path);
  } else {
    throw LoadError(model_dir.string() +
                    ": neither model.safetensors nor model.safetensors.index.json");
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

ConstTensorView WeightStore::get(std::string_view name, DType dtype,
                                 std::initializer_list<int64_t> shape) {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    throw LoadError(model_dir_.string() + ": missing tensor '" + std::string(name) +
                    "', expected " + std::string(stored_name(dtype)) + " " + describe_shape(shape));
  }
  const auto& [file, entry] = it->second;
  const bool same_shape =
      std::equal(shape.begin(), shape.end(), entry->shape.begin(), entry->shape.end());
  if (entry->dtype != stored_name(dtype) || !same_shape) {
    throw LoadError(file->path().string() + ": tensor '" + std::string(name) + "': expected " +
                    std::string(stored_name(dtype)) + " " + describe_shape(shape) + ", actual " +
                    entry->dtype + " " + describe_shape(entry->shape) +
                    (same_shape ? " (convert the weights to bfloat16)" : ""));
  }
  ConstTensorView view = make_view(static_cast<const BFloat16*>(nullptr), shape);
  view.dtype = dtype;
  view.data = aligned_data(*entry, dtype);
  return view;
}

/// Files written by early versions of the format's library have headers of odd length.
const void* WeightStore::aligned_data(const SafetensorsEntry& entry, DType dtype) {
  const auto address = reinterpret_cast<uintptr_t>(entry.data.data());
  if (address % static_cast<uintptr_t>(element_bytes(dtype)) == 0) return entry.data.data();
  auto& copy = realigned_.emplace_back((entry.data.size() + sizeof(int64_t) - 1) / sizeof(int64_t));
  std::memcpy(copy.data(), entry.data.data(), entry.data.size());
  return copy.data();
}

}  // namespace quire
