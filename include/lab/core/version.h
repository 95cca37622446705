#pragma once
// The version of the project.

#include <string>
#include <string_view>

namespace lab {
inline constexpr std::string_view version = "0.1.0";

// What the linker named this program by, from all of its code: in hexadecimal; "" where it did not.
std::string build_id();
}  // namespace lab
