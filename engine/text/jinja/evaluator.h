#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/runtime.h"

namespace quire::jinja {

/// Names of a template, a loop's turn or a macro's call, inside those around it.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> names;

  void set(std::string_view name, Value value);
  const Value* find(std::string_view name) const;  // here and around
  size_t num_names() const;                        // here and around
};

/// A macro and the names it was defined among.
struct Macro {
  const Stmt* definition;
  std::shared_ptr<Scope> scope;
};

/// One rendering of one template. Owns what may refer to itself: namespaces, loops, macros.
class Evaluator {
 public:
  explicit Evaluator(const Limits& limits);

  Runtime& runtime() { return runtime_; }
  void define(std::string_view name, Value value) { globals_->set(name, std::move(value)); }
  /// Throws Error.
  MarkedText run(const Body& body);

 private:
  enum class Flow : uint8_t { kOn, kBreak, kContinue };
  class Level;

  // ---- evaluator.cc: expressions ----
  Value evaluate(const Expr& expr);
  Value evaluate_kind(const Expr& expr);
  void spend_lookup();
  Value evaluate_name(const Expr& expr);
  Value evaluate_items(const Expr& expr);
  Value evaluate_dict(const Expr& expr);
  Value evaluate_slice(const Expr& expr);
  Value evaluate_compare(const Expr& expr);
  Value evaluate_arithmetic(const Expr& expr);
  Value evaluate_concat(const Expr& expr);
  Value evaluate_conditional(const Expr& expr);
  Value evaluate_filter(const Expr& expr);
  Arguments evaluate_arguments(const Expr& expr);

  // ---- calls.cc ----
  Value call(const Value& callee, const Arguments& arguments);
  Value call_function(const std::string& name, const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Value make_dict(const Arguments& arguments);

  // ---- macros.cc ----
  Value make_macro(const Stmt& stmt);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  void set_defaults(const Stmt& macro, Scope& inner);
  void execute_call(const Stmt& stmt);

  // ---- statements.cc ----
  Flow execute(const Body& body);
  Flow execute(const Stmt& stmt);
  Flow execute_kind(const Stmt& stmt);
  Flow execute_if(const Stmt& stmt);
  Flow execute_for(const Stmt& stmt);
  std::vector<Value> wanted_items(const Stmt& stmt, const Value& iterated);
  Flow run_loop(const Stmt& stmt, Loop& loop);
  Value call_loop(const Loop& loop, const Arguments& arguments);
  Flow execute_with(const Stmt& stmt);
  Flow execute_in_scope(const Body& body, std::shared_ptr<Scope> inner);
  std::shared_ptr<Scope> new_scope() const;
  Flow execute_capture(const Stmt& stmt);
  MarkedText capture(const Body& body, Flow& flow);
  void assign(const Target& target, const Value& value);
  void print(const MarkedText& text);

  Runtime runtime_;
  std::shared_ptr<Scope> globals_;
  std::shared_ptr<Scope> scope_;
  MarkedText* out_ = nullptr;
  const Value* filtered_ = nullptr;  // what a filter block's chain starts from
  int32_t depth_ = 0;
  std::deque<Namespace> namespaces_;
  std::deque<Loop> loops_;
  std::deque<Macro> macros_;
};

/// Counts a level for as long as it lives.
class Evaluator::Level {
 public:
  explicit Level(Evaluator& evaluator) : depth_(evaluator.depth_) {
    if (depth_ >= evaluator.runtime_.budget.limits().max_depth) {
      throw Error("the template nests more than " +
                  std::to_string(evaluator.runtime_.budget.limits().max_depth) + " levels");
    }
    ++depth_;
  }
  ~Level() { --depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int32_t& depth_;
};

}  // namespace quire::jinja
