#include "lab/track/url.h"

#include <cctype>

namespace lab {

bool is_below(std::string_view url, std::string_view host) {
  if (host.empty() || !url.starts_with(host)) return false;
  const std::string_view rest = url.substr(host.size());
  return rest.empty() || rest.front() == '/';
}

std::string percent_encoded(std::string_view text, std::string_view safe) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        byte < 0x80 && (std::isalnum(byte) || std::string_view("_.-~").find(c) != std::string_view::npos);
    if (plain || safe.find(c) != std::string_view::npos)
      out += c;
    else
      out.append({'%', digits[byte >> 4], digits[byte & 15]});
  }
  return out;
}

}  // namespace lab
