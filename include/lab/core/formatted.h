#pragma once
// Numbers as printf writes them.

#include <algorithm>
#include <cstdio>
#include <string>

namespace lab {

template <class... Arguments>
std::string formatted(const char* format, Arguments... arguments) {
  std::string out(static_cast<size_t>(std::max(0, std::snprintf(nullptr, 0, format, arguments...))), '\0');
  std::snprintf(out.data(), out.size() + 1, format, arguments...);
  return out;
}

}  // namespace lab
