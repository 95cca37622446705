#pragma once
// PNG files.

#include <cstdint>
#include <span>
#include <string>

namespace lab::detail {

// Of width x height pixels of 0xRRGGBB, row by row. (cairo has one too, whose bytes depend on more of the
// machine's libraries.)
std::string png(std::span<const uint32_t> pixels, int width, int height);

}  // namespace lab::detail
