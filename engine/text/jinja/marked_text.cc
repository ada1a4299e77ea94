#include "engine/text/jinja/marked_text.h"

#include <algorithm>

namespace quire::jinja {
namespace {

/// The first range that ends behind `pos`.
std::vector<ByteRange>::const_iterator range_behind(const std::vector<ByteRange>& ranges,
                                                    size_t pos) {
  return std::upper_bound(ranges.begin(), ranges.end(), pos,
                          [](size_t p, const ByteRange& range) { return p < range.end; });
}

}  // namespace

MarkedText MarkedText::of_user(std::string bytes) {
  MarkedText text(std::move(bytes));
  text.mark(0, text.size());
  return text;
}

bool MarkedText::is_user(size_t pos) const {
  const auto range = range_behind(user_, pos);
  return range != user_.end() && range->begin <= pos;
}

void MarkedText::append(const MarkedText& other) {
  const size_t base = size();
  const size_t num_ranges = other.user_.size();  // `other` may be this text
  bytes_.append(other.bytes_);
  for (size_t i = 0; i < num_ranges; ++i) {
    const ByteRange range = other.user_[i];
    mark(base + range.begin, base + range.end);
  }
}

void MarkedText::append_user(std::string_view bytes) {
  const size_t base = size();
  bytes_.append(bytes);
  mark(base, size());
}

void MarkedText::append_made_from(std::string_view bytes, const MarkedText& other, ByteRange from) {
  const auto range = range_behind(other.user_, from.begin);
  if (range != other.user_.end() && range->begin < from.end) {
    append_user(bytes);
  } else {
    append(bytes);
  }
}

MarkedText MarkedText::slice(size_t begin, size_t end) const {
  MarkedText part(bytes_.substr(begin, end - begin));
  for (auto range = range_behind(user_, begin); range != user_.end() && range->begin < end;
       ++range) {
    part.mark(std::max(range->begin, begin) - begin, std::min(range->end, end) - begin);
  }
  return part;
}

void MarkedText::mark(size_t begin, size_t end) {
  if (begin == end) return;
  if (!user_.empty() && user_.back().end == begin) {
    user_.back().end = end;
  } else {
    user_.push_back({begin, end});
  }
}

}  // namespace quire::jinja
