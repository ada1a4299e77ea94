#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "engine/text/jinja/json_value.h"
#include "engine/text/jinja/template.h"

namespace quire::jinja {

/// The members of an object as names that a template sees.
inline std::vector<Variable> variables_of(const nlohmann::ordered_json& object, Origin origin) {
  std::vector<Variable> variables;
  for (const auto& [name, value] : object.items()) {
    variables.push_back({name, value_of_json(value.dump(), origin)});
  }
  return variables;
}

}  // namespace quire::jinja
