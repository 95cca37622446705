#include "lab/data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <optional>
#include <span>

#include "data/elements.h"
#include "data/geometry.h"
#include "data/input_file.h"
#include "lab/core/error.h"

namespace lab {
namespace {

// Bytes of a file, decompressed where they are gzip; zlib tells by itself.
class GzipFile {
 public:
  explicit GzipFile(const std::string& path) : path_(path) {
    const detail::InputFile checked(path);  // for its errors
    file_ = gzopen(path.c_str(), "rbe");
    if (file_ == nullptr)
      throw IoError("cannot open ", quoted(path), "; check its rights and the free memory");
    gzbuffer(file_, 1 << 18);
  }
  ~GzipFile() { gzclose_r(file_); }
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  // How many bytes came; fewer than asked for at the end of the file.
  size_t read(std::span<std::byte> bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
      const auto most = static_cast<unsigned>(std::min<size_t>(bytes.size() - done, 1 << 30));
      const int got = gzread(file_, bytes.data() + done, most);
      int problem = Z_OK;
      const char* message = gzerror(file_, &problem);
      if (got < 0 || (problem != Z_OK && problem != Z_STREAM_END))
        throw DataError(path_, " does not decompress (zlib: ", message, "); copy or fetch it again");
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

 private:
  std::string path_;
  gzFile file_ = nullptr;
};

std::optional<DType> idx_type(std::byte code) {
  switch (std::to_integer<int>(code)) {
    case 0x08:
      return DType::u8;
    case 0x09:
      return DType::i8;
    case 0x0b:
      return DType::i16;
    case 0x0c:
      return DType::i32;
    case 0x0d:
      return DType::f32;
    case 0x0e:
      return DType::f64;
    default:
      return std::nullopt;
  }
}

// Type and shape: two zero bytes, the type, the number of dimensions, then each dimension as a big-endian
// u32.
IdxArray read_header(GzipFile& file, const std::string& path) {
  std::array<std::byte, 4> magic{};
  const bool whole = file.read(magic) == magic.size();
  const auto type = idx_type(magic[2]);
  const auto rank = std::to_integer<size_t>(magic[3]);
  if (!whole || magic[0] != std::byte{0} || magic[1] != std::byte{0} || !type || rank == 0)
    throw DataError(path,
                    " is not an idx file: it should begin with 00 00, a type (08 to 0e) and the number of "
                    "dimensions; name the file as it was published, plain or .gz");
  IdxArray array{*type, {}, {}};
  uint64_t bytes = static_cast<uint64_t>(size_of(*type));
  for (size_t d = 0; d < rank; ++d) {
    std::array<std::byte, 4> extent{};
    if (file.read(extent) != extent.size())
      throw DataError(path, " was cut short within its header; copy or fetch it again");
    uint64_t value = 0;
    for (const std::byte b : extent) value = value << 8 | std::to_integer<uint64_t>(b);
    array.shape.push_back(static_cast<int64_t>(value));
    if (value == 0 || bytes > (uint64_t{1} << 40) / value)
      throw DataError(path, " has the impossible shape ", detail::shape_text(array.shape),
                      "; copy or fetch it again");
    bytes *= value;
  }
  return array;
}

}  // namespace

IdxArray read_idx(const std::string& path) {
  GzipFile file(path);
  IdxArray array = read_header(file, path);
  uint64_t expected = static_cast<uint64_t>(size_of(array.type));
  for (const int64_t extent : array.shape) expected *= static_cast<uint64_t>(extent);
  // In pieces, so that a header that lies does not cost the memory it promises.
  constexpr size_t piece = 1 << 24;
  for (size_t done = 0; done < expected;) {
    const size_t wanted = std::min<size_t>(piece, expected - done);
    array.bytes.resize(done + wanted);
    const size_t got = file.read(std::span(array.bytes).subspan(done));
    done += got;
    if (got < wanted)
      throw DataError(path, " was cut short: its shape ", detail::shape_text(array.shape), " needs ",
                      expected, " bytes, there are ", done, "; copy or fetch it again");
  }
  std::array<std::byte, 1> beyond{};
  if (file.read(beyond) != 0)
    throw DataError(path, " goes on after the ", expected, " bytes that its shape ",
                    detail::shape_text(array.shape), " needs; copy or fetch it again");
  if constexpr (std::endian::native == std::endian::little)
    detail::swap_byte_order(array.bytes, static_cast<size_t>(size_of(array.type)));
  return array;
}

}  // namespace lab
