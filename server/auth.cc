#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <utility>

namespace quire {
namespace {

constexpr std::string_view kBearer = "bearer ";
constexpr size_t kIdBytes = 8;

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest digest_of(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

std::string id_of(const Digest& digest) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string id;
  for (size_t i = 0; i < kIdBytes; ++i) {
    id += kHex[digest[i] >> 4];
    id += kHex[digest[i] & 15];
  }
  return id;
}

}  // namespace

Authenticator::Authenticator(std::vector<std::string> keys) : keys_(std::move(keys)) {}

std::optional<std::string> Authenticator::identify(std::string_view presented_key) const {
  if (is_open()) return "anonymous";
  // Digests have one length, and all keys are compared whatever matches: the time tells nothing.
  const Digest presented = digest_of(presented_key);
  bool is_known = false;
  for (const std::string& key : keys_) {
    const Digest known = digest_of(key);
    is_known |= CRYPTO_memcmp(known.data(), presented.data(), known.size()) == 0;
  }
  if (!is_known) return std::nullopt;
  return id_of(presented);
}

std::optional<std::string> Authenticator::identify_bearer(std::string_view authorization) const {
  if (is_open()) return "anonymous";
  if (authorization.size() <= kBearer.size()) return std::nullopt;
  for (size_t i = 0; i < kBearer.size(); ++i) {
    const char letter = authorization[i];
    const char lower = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    if (lower != kBearer[i]) return std::nullopt;
  }
  return identify(authorization.substr(kBearer.size()));
}

}  // namespace quire
