#include "models/weights/safetensors.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "models/strict_json.h"

// The format: 8 bytes little-endian length of the header, the header as JSON
//   {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, …,
//    "__metadata__": {"key": "text"}}
// and the data that the offsets count from.

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own reader
constexpr int kMaxHeaderDepth = 4;
constexpr size_t kMaxStoredRank = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

std::optional<uint64_t> stored_element_bytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kSizes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
      {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
  for (const auto& [name, bytes] : kSizes) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

/// A header's claim about one tensor, before its offsets are compared with the others'.
struct Claim {
  std::string name;
  uint64_t begin = 0;
  uint64_t end = 0;
};

class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> data, std::string_view source_name)
      : data_(data), source_name_(source_name) {}

  SafetensorsEntries read(const Json& header) {
    if (!header.is_object()) fail("the header is not a JSON object");
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadataKey) continue;
      read_entry(name, value);
    }
    check_tiling();
    return std::move(entries_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw LoadError(source_name_ + ": " + what);
  }
  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    fail("tensor " + describe_json(name) + ": " + what);
  }

  void read_entry(const std::string& name, const Json& value) {
    if (!value.is_object()) fail(name, "expected an object, got " + describe_json(value));
    SafetensorsEntry entry;
    const Json& dtype = field(name, value, "dtype");
    if (!dtype.is_string()) fail(name, "dtype is " + describe_json(dtype));
    entry.dtype = dtype.get<std::string>();
    const auto element_bytes = stored_element_bytes(entry.dtype);
    if (!element_bytes) fail(name, "unknown dtype " + describe_json(dtype));

    uint64_t expected_bytes = *element_bytes;
    for (const uint64_t extent : numbers(name, value, "shape")) {
      if (extent > static_cast<uint64_t>(INT64_MAX) ||
          __builtin_mul_overflow(expected_bytes, extent, &expected_bytes)) {
        fail(name, "the size of shape " + describe_json(value["shape"]) + " overflows");
      }
      entry.shape.push_back(static_cast<int64_t>(extent));
    }
    if (entry.shape.size() > kMaxStoredRank) {
      fail(name, "rank " + std::to_string(entry.shape.size()));
    }

    const std::vector<uint64_t> offsets = numbers(name, value, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_.size()) {
      fail(name, "data_offsets " + describe_json(value["data_offsets"]) +
                     " are not a range of the file's " + std::to_string(data_.size()) +
                     " data bytes");
    }
    if (offsets[1] - offsets[0] != expected_bytes) {
      fail(name, entry.dtype + " " + describe_shape(entry.shape) + " takes " +
                     std::to_string(expected_bytes) + " bytes, data_offsets give " +
                     std::to_string(offsets[1] - offsets[0]));
    }
    entry.data = data_.subspan(offsets[0], expected_bytes);
    claims_.push_back({name, offsets[0], offsets[1]});
    entries_.emplace(name, std::move(entry));
  }

  const Json& field(const std::string& name, const Json& value, const char* key) const {
    const auto it = value.find(key);
    if (it == value.end()) fail(name, "no " + std::string(key));
    return *it;
  }

  std::vector<uint64_t> numbers(const std::string& name, const Json& value, const char* key) const {
    const Json& list = field(name, value, key);
    std::vector<uint64_t> result;
    bool valid = list.is_array();
    for (size_t i = 0; valid && i < list.size(); ++i) {
      valid = list[i].is_number_unsigned();
      if (valid) result.push_back(list[i].get<uint64_t>());
    }
    if (!valid) {
      fail(name, std::string(key) + " is not a list of whole numbers: " + describe_json(list));
    }
    return result;
  }

  /// The tensors in order of their offsets must tile the data: two readers can then never disagree
  /// on what a byte belongs to, and a file that lost or gained bytes is noticed.
  void check_tiling() {
    std::sort(claims_.begin(), claims_.end(), [](const Claim& a, const Claim& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t covered = 0;
    for (const Claim& claim : claims_) {
      if (claim.begin < covered) fail(claim.name, "overlaps another tensor");
      if (claim.begin > covered) {
        fail(claim.name, "bytes " + std::to_string(covered) + " to " + std::to_string(claim.begin) +
                             " before it belong to no tensor");
      }
      covered = claim.end;
    }
    if (covered != data_.size()) {
      fail(std::to_string(data_.size() - covered) + " bytes after the last tensor");
    }
  }

  std::span<const std::byte> data_;
  std::string source_name_;
  SafetensorsEntries entries_;
  std::vector<Claim> claims_;
};

}  // namespace

std::string describe_shape(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

SafetensorsEntries parse_safetensors(std::span<const std::byte> file,
                                     std::string_view source_name) {
  const std::string source(source_name);
  if (file.size() < kLengthBytes) {
    throw LoadError(source + ": " + std::to_string(file.size()) +
                    " bytes are too few for a safetensors file");
  }
  uint64_t header_bytes = 0;
  for (size_t i = kLengthBytes; i-- > 0;) {
    header_bytes = header_bytes << 8 | std::to_integer<uint64_t>(file[i]);
  }
  const uint64_t rest_bytes = file.size() - kLengthBytes;
  if (header_bytes > rest_bytes || header_bytes > kMaxHeaderBytes) {
    throw LoadError(source + ": the header claims " + std::to_string(header_bytes) +
                    " bytes, the file has " + std::to_string(rest_bytes) + " and the limit is " +
                    std::to_string(kMaxHeaderBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                              header_bytes);
  const Json header = parse_json(text, source + " (header)", kMaxHeaderDepth);
  return HeaderReader(file.subspan(kLengthBytes + header_bytes), source_name).read(header);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), entries_(parse_safetensors(file_.bytes(), path.string())) {}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

}  // namespace quire
