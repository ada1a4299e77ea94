#include "engine/text/jinja/runtime.h"

#include <algorithm>

namespace quire::jinja {

void Budget::spend_steps(size_t count) {
  steps_ += static_cast<int64_t>(count);
  if (steps_ > limits_.max_steps) {
    throw Error("the template needs more than " + std::to_string(limits_.max_steps) + " steps");
  }
}

void Budget::spend_bytes(size_t count) {
  if (count > limits_.max_built_bytes - built_bytes_) {
    throw Error("the template builds more than " + std::to_string(limits_.max_built_bytes) +
                " bytes of text");
  }
  built_bytes_ += count;
  spend_reading(count);
}

void Budget::check_output(size_t num_bytes) const {
  if (num_bytes > limits_.max_output_bytes) {
    throw Error("the template prints more than " + std::to_string(limits_.max_output_bytes) +
                " bytes");
  }
}

std::vector<const Value*> Arguments::bind(
    std::initializer_list<std::string_view> parameters) const {
  if (positional.size() > parameters.size()) throw Error("too many arguments");
  std::vector<const Value*> bound(parameters.size(), nullptr);
  for (size_t i = 0; i < positional.size(); ++i) bound[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto found = std::find(parameters.begin(), parameters.end(), name.bytes());
    if (found == parameters.end()) throw Error("unknown argument '" + name.bytes() + "'");
    const Value*& slot = bound[static_cast<size_t>(found - parameters.begin())];
    if (slot != nullptr) throw Error("argument '" + name.bytes() + "' is given twice");
    slot = &value;
  }
  return bound;
}

Arguments Arguments::without_first(size_t count) const {
  Arguments rest;
  count = std::min(count, positional.size());
  rest.positional.assign(positional.begin() + static_cast<std::ptrdiff_t>(count), positional.end());
  rest.named = named;
  return rest;
}

}  // namespace quire::jinja
