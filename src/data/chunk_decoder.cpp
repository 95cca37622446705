#include "data/chunk_decoder.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

#include "data/geometry.h"
#include "lab/core/error.h"

namespace lab::detail {
namespace {

constexpr size_t checksum_bytes = 4;

// HDF5's variant of Fletcher's checksum: big-endian 16-bit words, sums folded so that they never become zero.
uint32_t fletcher32(const std::byte* bytes, size_t size) {
  uint32_t first = 0, second = 0;
  size_t i = 0;
  while (i + 1 < size) {
    // 360 words are as many as fit before the second sum could overflow.
    for (const size_t end = std::min(size - size % 2, i + 720); i < end; i += 2) {
      first += std::to_integer<uint32_t>(bytes[i]) << 8 | std::to_integer<uint32_t>(bytes[i + 1]);
      second += first;
    }
    first = (first & 0xffff) + (first >> 16);
    second = (second & 0xffff) + (second >> 16);
  }
  if (size % 2) {
    first += std::to_integer<uint32_t>(bytes[size - 1]) << 8;
    second += first;
    first = (first & 0xffff) + (first >> 16);
    second = (second & 0xffff) + (second >> 16);
  }
  first = (first & 0xffff) + (first >> 16);
  second = (second & 0xffff) + (second >> 16);
  return second << 16 | first;
}

void check_fletcher32(std::vector<std::byte>& bytes) {
  if (bytes.size() < checksum_bytes) throw DataError("it is too short for its checksum");
  const size_t size = bytes.size() - checksum_bytes;
  uint32_t stored = 0;
  for (size_t i = checksum_bytes; i-- > 0;) stored = stored << 8 | std::to_integer<uint32_t>(bytes[size + i]);
  const uint32_t actual = fletcher32(bytes.data(), size);
  if (stored != actual) throw DataError("its checksum is ", actual, ", stored is ", stored);
  bytes.resize(size);
}

void inflate(std::vector<std::byte>& bytes, size_t expected) {
  std::vector<std::byte> out(expected);
  uLongf size = expected;
  const int result = uncompress(reinterpret_cast<Bytef*>(out.data()), &size,
                                reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  if (result != Z_OK) throw DataError("it does not decompress (zlib: ", zError(result), ")");
  if (size != expected) throw DataError("it decompresses to ", size, " bytes instead of ", expected);
  bytes = std::move(out);
}

// The writer put the first bytes of all elements first, then the second bytes, and so on.
void unshuffle(std::vector<std::byte>& bytes, size_t element) {
  const size_t count = bytes.size() / element;
  if (element == 1 || count <= 1) return;
  std::vector<std::byte> out(bytes);
  for (size_t b = 0; b < element; ++b)
    for (size_t i = 0; i < count; ++i) out[i * element + b] = bytes[b * count + i];
  bytes = std::move(out);
}

// Throws DataError with the reason alone.
std::vector<std::byte> decode(const FieldLayout& field, uint32_t filter_mask, std::vector<std::byte> stored) {
  const auto applied = [&](size_t i) { return (filter_mask >> i & 1) == 0; };
  for (size_t i = field.filters.size(); i-- > 0;) {
    if (!applied(i)) continue;
    if (field.filters[i] == Filter::fletcher32) check_fletcher32(stored);
    if (field.filters[i] == Filter::shuffle) unshuffle(stored, static_cast<size_t>(size_of(field.type)));
    if (field.filters[i] == Filter::deflate) {
      size_t expected = chunk_bytes(field);
      for (size_t before = 0; before < i; ++before)
        if (field.filters[before] == Filter::fletcher32 && applied(before)) expected += checksum_bytes;
      inflate(stored, expected);
    }
  }
  if (stored.size() != chunk_bytes(field))
    throw DataError("it decodes to ", stored.size(), " bytes instead of ", chunk_bytes(field));
  return stored;
}

}  // namespace

std::vector<std::byte> read_chunk(const InputFile& file, const FieldLayout& field, size_t index) {
  const Chunk& chunk = field.chunks[index];
  std::vector<std::byte> bytes(chunk.bytes ? chunk.bytes : chunk_bytes(field));
  if (chunk.bytes == 0) return bytes;
  file.read(chunk.offset, bytes);
  try {
    return decode(field, chunk.filter_mask, std::move(bytes));
  } catch (const DataError& problem) {
    const std::vector<int64_t> grid = chunk_grid(field);
    int64_t row = static_cast<int64_t>(index);
    for (size_t d = 1; d < grid.size(); ++d) row /= grid[d];
    const int64_t first = row * field.chunk_shape.front();
    const int64_t last = std::min(first + field.chunk_shape.front(), field.samples()) - 1;
    throw DataError("chunk ", index, " of '", field.name, "' in ", file.path(), " (samples ", first, " to ",
                    last, ") is damaged: ", problem.what(),
                    "; copy or fetch the file again, lab_data verify lists all damage");
  }
}

}  // namespace lab::detail
