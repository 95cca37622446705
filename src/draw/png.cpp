#include "draw/png.h"

#include <zlib.h>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

std::string big_endian(uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((value >> shift) & 0xff);
  return out;
}

std::string chunk(const std::string& type, const std::string& content) {
  const std::string checked = type + content;
  const auto sum = crc32_z(0, reinterpret_cast<const Bytef*>(checked.data()), checked.size());
  return big_endian(static_cast<uint32_t>(content.size())) + checked + big_endian(static_cast<uint32_t>(sum));
}

std::string deflated(const std::string& rows) {
  uLongf size = compressBound(rows.size());
  std::string out(size, '\0');
  const int result =
      compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(rows.data()),
                rows.size(), Z_DEFAULT_COMPRESSION);
  if (result != Z_OK) throw Unavailable("zlib could not compress a picture (", result, ")");
  out.resize(size);
  return out;
}

}  // namespace

std::string png(std::span<const uint32_t> pixels, int width, int height) {
  const auto columns = static_cast<size_t>(width);
  std::string rows;
  rows.reserve(static_cast<size_t>(height) * (1 + 3 * columns));
  for (size_t row = 0; row < static_cast<size_t>(height); ++row) {
    constexpr char as_they_are = 0;  // of PNG's filters none makes drawings smaller
    rows += as_they_are;
    for (const uint32_t pixel : pixels.subspan(row * columns, columns))
      for (int shift = 16; shift >= 0; shift -= 8) rows += static_cast<char>((pixel >> shift) & 0xff);
  }
  const std::string form("\x08\x02\0\0\0", 5);  // 8 bits of red, green and blue
  return std::string("\x89PNG\r\n\x1a\n") +
         chunk("IHDR",
               big_endian(static_cast<uint32_t>(width)) + big_endian(static_cast<uint32_t>(height)) + form) +
         chunk("IDAT", deflated(rows)) + chunk("IEND", "");
}

}  // namespace lab::detail
