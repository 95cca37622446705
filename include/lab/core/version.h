#pragma once
// The version of the project.

#include <string_view>

namespace lab {
inline constexpr std::string_view version = "0.1.0";
}  // namespace lab
