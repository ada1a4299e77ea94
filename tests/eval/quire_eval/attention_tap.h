#pragma once

#include <functional>
#include <utility>

#include "tests/support/forwarding_backend.h"

namespace quire::eval {

/// Shows every full attention to an observer before it is computed.
class AttentionTap final : public ForwardingBackend {
 public:
  using Observer = std::function<void(const FullAttentionParams&)>;

  using ForwardingBackend::ForwardingBackend;

  /// Empty: nobody looks.
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  void full_attention(const FullAttentionParams& p) override {
    if (observer_) observer_(p);
    inner().full_attention(p);
  }

 private:
  Observer observer_;
};

}  // namespace quire::eval
