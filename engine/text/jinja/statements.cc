#include "engine/text/jinja/evaluator.h"

namespace quire::jinja {

using Kind = Stmt::Kind;

MarkedText Evaluator::run(const Body& body) {
  scope_ = std::make_shared<Scope>();
  scope_->parent = globals_;
  MarkedText text;
  out_ = &text;
  execute(body);
  return text;
}

void Evaluator::print(const MarkedText& text) {
  runtime_.budget.check_output(out_->size() + text.size());
  runtime_.budget.spend_bytes(text.size());
  out_->append(text);
}

Evaluator::Flow Evaluator::execute(const Body& body) {
  for (const auto& stmt : body) {
    const Flow flow = execute(*stmt);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Evaluator::Flow Evaluator::execute(const Stmt& stmt) {
  try {
    const Level level(*this);
    runtime_.budget.spend_steps(1);
    return execute_kind(stmt);
  } catch (const Error& error) {
    if (error.position().line > 0) throw;
    throw Error(error.what(), stmt.at);
  }
}

Evaluator::Flow Evaluator::execute_kind(const Stmt& stmt) {
  switch (stmt.kind) {
    case Kind::kText:
      print(MarkedText(stmt.text));
      break;
    case Kind::kOutput:
      print(text_of(runtime_, evaluate(*stmt.expr)));
      break;
    case Kind::kIf:
      return execute_if(stmt);
    case Kind::kFor:
      return execute_for(stmt);
    case Kind::kSet:
      assign(stmt.target, evaluate(*stmt.expr));
      break;
    case Kind::kSetBlock:
    case Kind::kFilter:
      return execute_capture(stmt);
    case Kind::kMacro:
      define_macro(stmt);
      break;
    case Kind::kScope:
      return execute(stmt.body);
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

Evaluator::Flow Evaluator::execute_if(const Stmt& stmt) {
  for (const Stmt::Branch& branch : stmt.branches) {
    if (evaluate(*branch.condition).is_true()) return execute(branch.body);
  }
  return execute(stmt.otherwise);
}

/// The items that an inline `if` leaves; the loop counts only those.
std::vector<Value> Evaluator::wanted_items(const Stmt& stmt) {
  std::vector<Value> items = items_of(runtime_, evaluate(*stmt.expr));
  if (stmt.condition == nullptr) return items;
  std::vector<Value> wanted;
  const auto outer = scope_;
  for (Value& item : items) {
    scope_ = std::make_shared<Scope>();
    scope_->parent = outer;
    assign(stmt.target, item);
    if (evaluate(*stmt.condition).is_true()) wanted.push_back(std::move(item));
  }
  scope_ = outer;
  return wanted;
}

/// As in Jinja, `else` is for loops of which no turn came to its end: with no items, or where each
/// turn met break or continue.
Evaluator::Flow Evaluator::execute_for(const Stmt& stmt) {
  Loop& loop = loops_.emplace_back();
  loop.items = wanted_items(stmt);
  const auto outer = scope_;
  bool has_completed = false;
  for (; loop.index < loop.items.size(); ++loop.index) {
    scope_ = std::make_shared<Scope>();
    scope_->parent = outer;
    scope_->set("loop", &std::as_const(loop));
    assign(stmt.target, loop.items[loop.index]);
    const Flow flow = execute(stmt.body);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kOn) has_completed = true;
  }
  scope_ = outer;
  return has_completed ? Flow::kOn : execute(stmt.otherwise);
}

void Evaluator::define_macro(const Stmt& stmt) {
  macros_.push_back({&stmt, scope_});
  scope_->set(
      stmt.name,
      CallablePtr(std::make_shared<Callable>(Callable{stmt.name, Value(), &macros_.back()})));
}

MarkedText Evaluator::capture(const Body& body, Flow& flow) {
  MarkedText text;
  MarkedText* const outer = std::exchange(out_, &text);
  flow = execute(body);
  out_ = outer;
  return text;
}

/// {% set x %}…{% endset %} and {% filter … %}…{% endfilter %}: the body has a scope of its own.
Evaluator::Flow Evaluator::execute_capture(const Stmt& stmt) {
  const auto outer = scope_;
  scope_ = std::make_shared<Scope>();
  scope_->parent = outer;
  Flow flow = Flow::kOn;
  Value value = capture(stmt.body, flow);
  scope_ = outer;
  if (stmt.filters != nullptr) {
    const Value input = value;
    const Value* const outer_filtered = std::exchange(filtered_, &input);
    value = evaluate(*stmt.filters);
    filtered_ = outer_filtered;
  }
  if (stmt.kind == Kind::kSetBlock) {
    assign(stmt.target, value);
  } else {
    print(text_of(runtime_, value));
  }
  return flow;
}

void Evaluator::assign(const Target& target, const Value& value) {
  if (target.parts.empty() && target.attribute.empty()) {
    scope_->set(target.name, value);
    return;
  }
  if (!target.attribute.empty()) {
    const Value* object = scope_->find(target.name);
    Namespace* space = object != nullptr ? object->as_namespace() : nullptr;
    if (space == nullptr) throw Error("only attributes of a namespace can be set");
    Value* held = space->find(target.attribute);
    if (held != nullptr) {
      *held = value;
    } else {
      space->attributes.emplace_back(target.attribute, value);
    }
    return;
  }
  const std::vector<Value> parts = items_of(runtime_, value);
  if (parts.size() != target.parts.size()) {
    throw Error("expected " + std::to_string(target.parts.size()) + " values to unpack, not " +
                std::to_string(parts.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i]);
}

}  // namespace quire::jinja
