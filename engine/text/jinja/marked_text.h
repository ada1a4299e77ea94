#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace quire::jinja {

/// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const ByteRange& other) const { return begin == other.begin && end == other.end; }
};

/// UTF-8 text that remembers which of its bytes came from the request.
///
/// A prompt is one string, and "<|end|>" typed by a user looks like the template's own. What tells
/// them apart is where the bytes came from, so every operation on text carries that along: whatever
/// is cut out of, joined with, or written in the case of a user's text is the user's. Ranges are
/// sorted, not empty, and neither touch nor overlap.
class MarkedText {
 public:
  MarkedText() = default;
  /// Text of the template or the model's folder.
  explicit MarkedText(std::string bytes) : bytes_(std::move(bytes)) {}
  static MarkedText of_user(std::string bytes);

  const std::string& bytes() const { return bytes_; }
  const std::vector<ByteRange>& user_ranges() const { return user_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool is_user(size_t pos) const;

  void append(const MarkedText& other);
  void append(std::string_view bytes) { bytes_.append(bytes); }
  void append_user(std::string_view bytes);
  /// Appends `bytes` that were made from other[begin, end): the user's if any of those is.
  void append_made_from(std::string_view bytes, const MarkedText& other, ByteRange from);

  /// REQUIRES: begin <= end <= size().
  MarkedText slice(size_t begin, size_t end) const;

 private:
  void mark(size_t begin, size_t end);

  std::string bytes_;
  std::vector<ByteRange> user_;
};

}  // namespace quire::jinja
