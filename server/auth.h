#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// API keys. With no key configured everybody is let in as "anonymous". Thread-safe, immutable.
class Authenticator {
 public:
  explicit Authenticator(std::vector<std::string> keys);

  /// The caller's id: a digest that names the key without revealing it; it scopes the prefix cache.
  /// Null when the key is missing or wrong. Takes the same time for every wrong key.
  std::optional<std::string> identify(std::string_view presented_key) const;
  /// `authorization` is a whole header value, "Bearer sk-…".
  std::optional<std::string> identify_bearer(std::string_view authorization) const;
  bool is_open() const { return keys_.empty(); }

 private:
  std::vector<std::string> keys_;
};

}  // namespace quire
