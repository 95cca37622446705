#include "track/login.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace lab::detail {
namespace {
constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

std::string base64(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k)
      three = three << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? digits[three >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const size_t value = digits.find(c == '-' ? '+' : c == '_' ? '/' : c);
    if (value == std::string_view::npos || c == '+' || c == '/') return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xffffff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>(bits >> held & 0xff);
  }
  return out;
}

std::optional<std::chrono::seconds> renewal_after(const std::string& token, int64_t now) {
  const size_t first = token.find('.');
  const size_t second = first == std::string::npos ? first : token.find('.', first + 1);
  if (second == std::string::npos) return std::nullopt;
  const auto payload = from_base64url(std::string_view(token).substr(first + 1, second - first - 1));
  if (!payload || payload->size() > 65'536) return std::nullopt;
  const auto claims = nlohmann::json::parse(*payload, nullptr, false);
  const auto time = [&claims](const char* name) -> std::optional<double> {
    if (!claims.is_object() || !claims.contains(name) || !claims[name].is_number()) return std::nullopt;
    return std::clamp(claims[name].get<double>(), 0.0, 1e11);
  };
  const auto end = time("exp");
  if (!end) return std::nullopt;
  const double life = std::max(0.0, *end - time("iat").value_or(static_cast<double>(now)));
  return std::chrono::seconds(static_cast<int64_t>(life - std::min(360.0, life / 2)));
}

}  // namespace lab::detail
