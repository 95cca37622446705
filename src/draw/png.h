#pragma once
// PNG files.

#include <cstdint>
#include <span>
#include <string>

namespace lab::detail {

// Of width x height pixels of 0xRRGGBB, row by row. The libraries that cairo asks take three times as long
// for it.
std::string png(std::span<const uint32_t> pixels, int width, int height);

}  // namespace lab::detail
