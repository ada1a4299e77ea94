#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "tests/support/forwarding_backend.h"

namespace quire::eval {

/// Shows every full attention to an observer before it is computed, and every selection of blocks
/// after it has been made.
class AttentionTap final : public ForwardingBackend {
 public:
  using AttentionObserver = std::function<void(const FullAttentionParams&)>;
  using SelectionObserver = std::function<void(const MobaGateParams&)>;

  using ForwardingBackend::ForwardingBackend;

  /// Empty: nobody looks.
  void observe_attention(AttentionObserver observer) { on_attention_ = std::move(observer); }
  void observe_selection(SelectionObserver observer) { on_selection_ = std::move(observer); }

  void full_attention(const FullAttentionParams& p) override {
    if (on_attention_) on_attention_(p);
    inner().full_attention(p);
  }

  void moba_gate(const MobaGateParams& p) override {
    inner().moba_gate(p);
    if (on_selection_) on_selection_(p);
  }

 private:
  AttentionObserver on_attention_;
  SelectionObserver on_selection_;
};

}  // namespace quire::eval
