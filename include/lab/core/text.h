#pragma once
// Small text pieces that messages are made of.

#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace lab {

// The parts one after the other, as operator<< writes them: text("rank ", 3, " of ", 8).
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// "a, b, c"
std::string join(std::span<const std::string> parts, std::string_view separator = ", ");

// "0, 2, 3, 4, 5 ... [7]": the first five, and how many there are when there are more.
std::string short_list(std::span<const int64_t> values);

// The known name nearest to `name` by edit distance, or "" when none is near enough to be meant.
std::string nearest_name(std::string_view name, std::span<const std::string> known);

// The shortest decimal text that reads back as exactly this double: 0.1, 1e-05, nan, inf.
std::string shortest(double value);

// A TOML basic string: quoted, with escapes.
std::string quoted(std::string_view value);
// The same; argument lookup would otherwise find std::quoted for a std::string.
inline std::string quoted(const std::string& value) { return quoted(std::string_view(value)); }
inline std::string quoted(std::string& value) { return quoted(std::string_view(value)); }
inline std::string quoted(const char* value) { return quoted(std::string_view(value)); }

// "1.2 MiB"
std::string byte_size(uint64_t bytes);

}  // namespace lab
