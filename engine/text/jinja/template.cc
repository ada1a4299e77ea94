#include "engine/text/jinja/template.h"

#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/parser.h"

namespace quire::jinja {
namespace {

constexpr size_t kMaxSourceBytes = 1 << 20;

}  // namespace

struct Template::Parsed {
  Body body;
};

Template::Template(std::string_view source) {
  if (source.size() > kMaxSourceBytes) throw Error("a template of more than 1 MiB");
  parsed_ = std::make_unique<const Parsed>(Parsed{parse_template(source)});
}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

MarkedText Template::render(const Input& input) const {
  Evaluator evaluator(input.limits);
  evaluator.runtime().now = input.now;
  for (const Variable& variable : input.variables) evaluator.define(variable.name, variable.value);
  return evaluator.run(parsed_->body);
}

}  // namespace quire::jinja
