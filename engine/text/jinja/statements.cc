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
      scope_->set(stmt.name, make_macro(stmt));
      break;
    case Kind::kCall:
      execute_call(stmt);
      break;
    case Kind::kWith:
      return execute_with(stmt);
    case Kind::kScope:
      return execute_in_scope(stmt.body, new_scope());
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
std::vector<Value> Evaluator::wanted_items(const Stmt& stmt, const Value& iterated) {
  std::vector<Value> items = items_of(runtime_, iterated);
  if (stmt.condition == nullptr) return items;
  std::vector<Value> wanted;
  const auto outer = scope_;
  for (Value& item : items) {
    scope_ = outer;
    scope_ = new_scope();
    assign(stmt.target, item);
    if (evaluate(*stmt.condition).is_true()) wanted.push_back(std::move(item));
  }
  scope_ = outer;
  return wanted;
}

Evaluator::Flow Evaluator::execute_for(const Stmt& stmt) {
  Loop& loop = loops_.emplace_back();
  loop.items = wanted_items(stmt, evaluate(*stmt.expr));
  if (stmt.is_recursive) {
    loop.statement = &stmt;
    loop.scope = scope_;
  }
  return run_loop(stmt, loop);
}

/// As in Jinja, `else` is for loops of which no turn came to its end: with no items, or where each
/// turn met break or continue.
Evaluator::Flow Evaluator::run_loop(const Stmt& stmt, Loop& loop) {
  const auto outer = scope_;
  bool has_completed = false;
  for (; loop.index < loop.items.size(); ++loop.index) {
    scope_ = outer;
    scope_ = new_scope();
    scope_->set("loop", &loop);
    assign(stmt.target, loop.items[loop.index]);
    const Flow flow = execute(stmt.body);
    if (flow == Flow::kBreak) break;
    if (flow == Flow::kOn) has_completed = true;
  }
  scope_ = outer;
  return has_completed ? Flow::kOn : execute(stmt.otherwise);
}

/// loop(items) in a loop that is recursive: the same statement over these items.
Value Evaluator::call_loop(const Loop& loop, const Arguments& arguments) {
  if (loop.statement == nullptr) throw Error("only the loop of a recursive for can be called");
  const auto bound = arguments.bind({"iterable"});
  if (bound[0] == nullptr) throw Error("loop needs what it shall run over");
  const auto outer = std::exchange(scope_, loop.scope);
  Loop& inner = loops_.emplace_back();
  inner.items = wanted_items(*loop.statement, *bound[0]);
  inner.depth = loop.depth + 1;
  inner.statement = loop.statement;
  inner.scope = loop.scope;
  MarkedText text;
  MarkedText* const printed = std::exchange(out_, &text);
  run_loop(*loop.statement, inner);
  out_ = printed;
  scope_ = outer;
  return text;
}

std::shared_ptr<Scope> Evaluator::new_scope() const {
  auto inner = std::make_shared<Scope>();
  inner->parent = scope_;
  return inner;
}

Evaluator::Flow Evaluator::execute_in_scope(const Body& body, std::shared_ptr<Scope> inner) {
  const auto outer = std::exchange(scope_, std::move(inner));
  const Flow flow = execute(body);
  scope_ = outer;
  return flow;
}

/// The values do not see each other's names.
Evaluator::Flow Evaluator::execute_with(const Stmt& stmt) {
  std::vector<Value> values;
  for (const Binding& binding : stmt.bindings) values.push_back(evaluate(*binding.value));
  const auto inner = new_scope();
  const auto outer = std::exchange(scope_, inner);
  for (size_t i = 0; i < values.size(); ++i) assign(stmt.bindings[i].target, values[i]);
  scope_ = outer;
  return execute_in_scope(stmt.body, inner);
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
  const auto outer = std::exchange(scope_, new_scope());
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
  spend_lookup();
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
      space->check_room();
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
