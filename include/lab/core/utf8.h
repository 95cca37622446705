#pragma once
// Cutting text without cutting a letter.

#include <cstddef>
#include <string>

namespace lab {

// The beginning of `text`, in UTF-8, that has at most `most` bytes and ends behind a whole letter.
std::string utf8_prefix(const std::string& text, size_t most);

}  // namespace lab
