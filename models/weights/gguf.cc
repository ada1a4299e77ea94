#include "models/weights/gguf.h"

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "models/model_config.h"
#include "models/strict_json.h"
#include "models/weights/little_endian.h"
#include "models/weights/safetensors.h"

// The format: "GGUF", u32 version, u64 number of tensors, u64 number of metadata entries, the
// entries (key, u32 type, value), the tensors' descriptions (name, u32 rank, u64 extents with the
// fastest first, u32 type, u64 offset), zeros up to a multiple of the alignment, and the data that
// the offsets count from. A string is a u64 length and its bytes; an array a u32 type, a u64 count
// and its elements, which may be arrays.

namespace quire {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;  // the format's limit
constexpr uint64_t kMaxNameBytes = 64;    // the format's limit
constexpr int kMaxArrayDepth = 4;
constexpr uint32_t kMaxStoredRank = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = 1 << 16;
// What the smallest entry and the smallest description take: counts beyond that are lies.
constexpr uint64_t kMinEntryBytes = 8 + 4 + 1;
constexpr uint64_t kMinDescriptionBytes = 8 + 4 + 8 + 4 + 8;

struct TypeLayout {
  GgufType type;
  std::string_view name;
  uint64_t block_elements;
  uint64_t block_bytes;
};
constexpr TypeLayout kTypeLayouts[] = {
    {GgufType::kF32, "F32", 1, 4},       {GgufType::kF16, "F16", 1, 2},
    {GgufType::kBF16, "BF16", 1, 2},     {GgufType::kQ8_0, "Q8_0", 32, 34},
    {GgufType::kQ4_0, "Q4_0", 32, 18},   {GgufType::kQ4_K, "Q4_K", 256, 144},
    {GgufType::kQ5_K, "Q5_K", 256, 176}, {GgufType::kQ6_K, "Q6_K", 256, 210},
};

const TypeLayout* find_layout(uint32_t type) {
  for (const TypeLayout& layout : kTypeLayouts) {
    if (static_cast<uint32_t>(layout.type) == type) return &layout;
  }
  return nullptr;
}

std::string known_types() {
  std::string names;
  for (const TypeLayout& layout : kTypeLayouts) {
    names += (names.empty() ? "" : ", ") + std::string(layout.name);
  }
  return names;
}

uint64_t padded(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

/// A tensor whose offset has not yet been compared with the others'.
struct Claim {
  std::string name;
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t num_bytes = 0;
};

class GgufReader {
 public:
  GgufReader(std::span<const std::byte> file, std::string_view source_name)
      : file_(file), source_name_(source_name), contents_{GgufMetadata(source_name), {}} {}

  GgufContents read() {
    check_magic();
    const uint64_t num_tensors = number(8, "the number of tensors");
    const uint64_t num_entries = number(8, "the number of metadata entries");
    check_count("metadata entries", num_entries, kMinEntryBytes);
    for (uint64_t i = 0; i < num_entries; ++i) read_entry();
    check_count("tensors", num_tensors, kMinDescriptionBytes);
    for (uint64_t i = 0; i < num_tensors; ++i) read_description();
    place_tensors();
    return std::move(contents_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw LoadError(source_name_ + ": " + what);
  }
  [[noreturn]] void fail_tensor(std::string_view name, const std::string& what) const {
    fail("tensor " + describe_json(std::string(name)) + ": " + what);
  }

  uint64_t rest_bytes() const { return file_.size() - pos_; }

  std::span<const std::byte> take(uint64_t size, std::string_view what) {
    if (size > rest_bytes()) {
      fail("ends inside of " + std::string(what) + ": " + std::to_string(size) +
           " bytes wanted at " + std::to_string(pos_) + ", " + std::to_string(rest_bytes()) +
           " are left");
    }
    const auto bytes = file_.subspan(pos_, size);
    pos_ += size;
    return bytes;
  }
  uint64_t number(uint64_t size, std::string_view what) { return little_endian(take(size, what)); }

  void check_magic() {
    if (as_text(take(4, "the magic number")) != "GGUF") fail("not a GGUF file");
    const auto version = static_cast<uint32_t>(number(4, "the version"));
    if (version == 2 || version == 3) return;
    const bool is_swapped = version != 0 && (version & 0xFFFF) == 0;
    fail("GGUF version " + std::to_string(version) + " is not supported (2 or 3" +
         (is_swapped ? "; the file looks big-endian)" : ")"));
  }

  void check_count(std::string_view what, uint64_t count, uint64_t min_bytes) const {
    if (count <= rest_bytes() / min_bytes) return;
    fail("claims " + std::to_string(count) + " " + std::string(what) + ", but only " +
         std::to_string(rest_bytes()) + " bytes are left");
  }

  std::string_view read_name(std::string_view what, uint64_t max_bytes) {
    const uint64_t length = number(8, what);
    if (length > max_bytes) {
      fail(std::string(what) + " of " + std::to_string(length) + " bytes (at most " +
           std::to_string(max_bytes) + ")");
    }
    return as_text(take(length, what));
  }

  void read_entry() {
    const std::string_view key = read_name("a metadata key", kMaxKeyBytes);
    const std::string where = "metadata " + describe_json(std::string(key));
    const GgufValueType type = value_type(where);
    if (!contents_.metadata.add(key, read_value(type, where))) fail(where + " stands twice");
  }

  GgufValueType value_type(const std::string& where) {
    const uint64_t type = number(4, where);
    if (type > static_cast<uint64_t>(GgufValueType::kF64)) {
      fail(where + ": unknown type " + std::to_string(type));
    }
    return static_cast<GgufValueType>(type);
  }

  GgufValue read_value(GgufValueType type, const std::string& where) {
    GgufValue value{.type = type, .element_type = type, .count = 1, .data = {}};
    if (type == GgufValueType::kString) {
      value.data = take(number(8, where), where);
    } else if (type == GgufValueType::kArray) {
      value.element_type = value_type(where);
      value.count = number(8, where);
      const size_t begin = pos_;
      skip_elements(value.element_type, value.count, where, 1);
      value.data = file_.subspan(begin, pos_ - begin);
    } else {
      value.data = take(gguf_value_bytes(type), where);
      check_booleans(type, value.data, where);
    }
    return value;
  }

  /// Walks over an array, so that whoever reads it later can believe its lengths.
  void skip_elements(GgufValueType type, uint64_t count, const std::string& where, int depth) {
    if (depth > kMaxArrayDepth) {
      fail(where + ": arrays nested deeper than " + std::to_string(kMaxArrayDepth));
    }
    constexpr uint64_t kMinStringBytes = 8, kMinArrayBytes = 12;
    if (type == GgufValueType::kString) {
      check_count("strings in " + where, count, kMinStringBytes);
      for (uint64_t i = 0; i < count; ++i) take(number(8, where), where);
    } else if (type == GgufValueType::kArray) {
      check_count("arrays in " + where, count, kMinArrayBytes);
      for (uint64_t i = 0; i < count; ++i) {
        const GgufValueType inner_type = value_type(where);
        skip_elements(inner_type, number(8, where), where, depth + 1);
      }
    } else {
      check_count("numbers in " + where, count, gguf_value_bytes(type));
      check_booleans(type, take(count * gguf_value_bytes(type), where), where);
    }
  }

  void check_booleans(GgufValueType type, std::span<const std::byte> data,
                      const std::string& where) const {
    if (type != GgufValueType::kBool) return;
    for (const std::byte byte : data) {
      if (byte > std::byte{1}) {
        fail(where + ": a bool of " + std::to_string(std::to_integer<int>(byte)));
      }
    }
  }

  void read_description() {
    Claim claim;
    claim.name = read_name("a tensor's name", kMaxNameBytes);
    const auto rank = static_cast<uint32_t>(number(4, "a tensor's description"));
    if (rank < 1 || rank > kMaxStoredRank) {
      fail_tensor(claim.name, "rank " + std::to_string(rank) + " (1 to " +
                                  std::to_string(kMaxStoredRank) + ")");
    }
    for (uint32_t axis = 0; axis < rank; ++axis) {
      const uint64_t extent = number(8, "a tensor's description");
      if (extent < 1 || extent > static_cast<uint64_t>(INT64_MAX)) {
        fail_tensor(claim.name, "an extent of " + std::to_string(extent));
      }
      claim.tensor.shape.push_back(static_cast<int64_t>(extent));
    }
    std::reverse(claim.tensor.shape.begin(), claim.tensor.shape.end());
    set_size(claim, static_cast<uint32_t>(number(4, "a tensor's description")));
    claim.offset = number(8, "a tensor's description");
    if (!names_.insert(claim.name).second) fail_tensor(claim.name, "stands twice");
    claims_.push_back(std::move(claim));
  }

  void set_size(Claim& claim, uint32_t type) const {
    const TypeLayout* layout = find_layout(type);
    if (layout == nullptr) {
      fail_tensor(claim.name,
                  "type " + std::to_string(type) + " is not supported (" + known_types() + " are)");
    }
    claim.tensor.type = layout->type;
    const std::vector<int64_t>& shape = claim.tensor.shape;
    if (static_cast<uint64_t>(shape.back()) % layout->block_elements != 0) {
      fail_tensor(claim.name, "rows of " + std::to_string(shape.back()) + " in " +
                                  std::string(layout->name) + " blocks of " +
                                  std::to_string(layout->block_elements));
    }
    claim.num_bytes = layout->block_bytes;
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      auto extent = static_cast<uint64_t>(shape[axis]);
      if (axis + 1 == shape.size()) extent /= layout->block_elements;
      if (__builtin_mul_overflow(claim.num_bytes, extent, &claim.num_bytes)) {
        fail_tensor(claim.name, "the size of shape " + describe_shape(shape) + " overflows");
      }
    }
  }

  uint64_t alignment() const {
    const int64_t bytes =
        contents_.metadata.optional_integer("general.alignment", {1, kMaxAlignment})
            .value_or(kDefaultAlignment);
    if (!std::has_single_bit(static_cast<uint64_t>(bytes))) {
      contents_.metadata.fail("general.alignment", std::to_string(bytes) + " is no power of two");
    }
    return static_cast<uint64_t>(bytes);
  }

  /// In order of their offsets the tensors must follow each other at the alignment: two readers can
  /// then never disagree on what a byte belongs to, and a file that lost bytes is noticed.
  void place_tensors() {
    const uint64_t unit = alignment();
    const uint64_t data_begin = std::min<uint64_t>(padded(pos_, unit), file_.size());
    const auto data = file_.subspan(data_begin);
    std::sort(claims_.begin(), claims_.end(),
              [](const Claim& a, const Claim& b) { return a.offset < b.offset; });
    uint64_t covered = 0;
    for (Claim& claim : claims_) {
      const uint64_t expected = padded(covered, unit);
      if (claim.offset < covered) fail_tensor(claim.name, "overlaps another tensor");
      if (claim.offset != expected) {
        fail_tensor(claim.name, "is at " + std::to_string(claim.offset) + ", expected " +
                                    std::to_string(expected));
      }
      if (claim.offset > data.size() || claim.num_bytes > data.size() - claim.offset) {
        fail_tensor(claim.name, std::to_string(claim.num_bytes) + " bytes at " +
                                    std::to_string(claim.offset) + " of the file's " +
                                    std::to_string(data.size()) + " data bytes");
      }
      claim.tensor.data = data.subspan(claim.offset, claim.num_bytes);
      covered = claim.offset + claim.num_bytes;
      contents_.tensors.emplace(std::move(claim.name), std::move(claim.tensor));
    }
  }

  std::span<const std::byte> file_;
  std::string source_name_;
  size_t pos_ = 0;
  GgufContents contents_;
  std::vector<Claim> claims_;
  std::set<std::string, std::less<>> names_;
};

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  return find_layout(static_cast<uint32_t>(type))->name;
}

GgufContents parse_gguf(std::span<const std::byte> file, std::string_view source_name) {
  return GgufReader(file, source_name).read();
}

GgufFile::GgufFile(const std::filesystem::path& path)
    : file_(path), contents_(parse_gguf(file_.bytes(), path.string())) {
  const int64_t num_parts = metadata().optional_integer("split.count", {0, INT32_MAX}).value_or(1);
  if (num_parts > 1) {
    metadata().fail("split.count", "one of " + std::to_string(num_parts) +
                                       " parts; split files are not supported (merge them)");
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = contents_.tensors.find(name);
  return it == contents_.tensors.end() ? nullptr : &it->second;
}

}  // namespace quire
