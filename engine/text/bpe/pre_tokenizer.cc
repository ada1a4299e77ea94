#include "engine/text/bpe/pre_tokenizer.h"

#include "engine/text/bpe/newer_characters.h"
#include "engine/text/bpe/text_normalizer.h"

namespace quire {

/// Turns matches and what lies between them into pieces, holding back one that may still grow.
class PreTokenizer::Cutter {
 public:
  Cutter(const PreTokenizer& owner, size_t step_index, bool starts_text, Sink& sink)
      : owner_(owner),
        behavior_(owner.steps_[step_index].behavior),
        next_step_(step_index + 1),
        starts_text_(starts_text),
        sink_(sink) {}

  /// Ranges follow one another without a gap.
  void take(std::string_view text, size_t begin, size_t end, bool is_match) {
    if (begin == end) return;
    const std::string_view range = text.substr(begin, end - begin);
    if (behavior_ == Behavior::kIsolated) return emit(range, begin);
    if (behavior_ == Behavior::kRemoved) {
      if (!is_match) emit(range, begin);
      return;
    }
    if (!held_.empty() && joins(is_match)) {
      held_ = text.substr(held_begin_, end - held_begin_);
      was_match_ = is_match;
      if (behavior_ != Behavior::kContiguous) flush();
      return;
    }
    flush();
    held_ = range;
    held_begin_ = begin;
    was_match_ = is_match;
  }

  void flush() {
    if (!held_.empty()) emit(held_, held_begin_);
    held_ = {};
  }

 private:
  bool joins(bool is_match) const {
    if (behavior_ == Behavior::kContiguous) return is_match == was_match_;
    return behavior_ == Behavior::kMergedWithPrevious ? is_match && !was_match_
                                                      : !is_match && was_match_;
  }

  void emit(std::string_view piece, size_t begin) {
    owner_.run(next_step_, piece, starts_text_ && begin == 0, sink_);
  }

  const PreTokenizer& owner_;
  Behavior behavior_;
  size_t next_step_;
  bool starts_text_;
  Sink& sink_;
  std::string_view held_;
  size_t held_begin_ = 0;
  bool was_match_ = false;
};

void PreTokenizer::split(std::string_view text, bool starts_text, Sink& sink) const {
  run(0, text, starts_text, sink);
}

void PreTokenizer::run(size_t step_index, std::string_view piece, bool starts_text,
                       Sink& sink) const {
  if (piece.empty()) return;
  if (step_index == steps_.size()) return sink.on_piece(piece);
  const Step& step = steps_[step_index];
  std::string changed;
  if (!step.replacement.empty()) {
    changed = replace_text(piece, " ", step.replacement);
    piece = changed;
  }
  const bool may_prefix =
      step.prefix == Prefix::kAlways || (step.prefix == Prefix::kFirst && starts_text);
  if (may_prefix && !piece.starts_with(step.prefix_text)) {
    changed = step.prefix_text + std::string(piece);
    piece = changed;
  }
  if (!step.pattern) return run(step_index + 1, piece, starts_text, sink);
  Cutter cutter(*this, step_index, starts_text, sink);
  std::string older;
  const std::string_view seen =
      step.pattern->is_literal() ? piece : with_older_characters(piece, older);
  size_t from = 0;
  while (from < piece.size()) {
    const auto match = step.pattern->find(seen, from);
    const size_t begin = match ? match->begin : piece.size();
    const size_t end = match ? match->end : piece.size();
    cutter.take(piece, from, begin, step.inverts);
    cutter.take(piece, begin, end, !step.inverts);
    from = end;
  }
  cutter.flush();
}

}  // namespace quire
