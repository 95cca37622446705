#include "data/geometry.h"

#include <algorithm>
#include <numeric>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

constexpr uint64_t most_field_bytes = uint64_t{1} << 60;
constexpr uint64_t most_chunk_bytes = uint64_t{1} << 30;
// deflate cannot make data smaller than by a factor of 1032 (zlib.net/zlib_tech.html).
constexpr uint64_t most_compression = 1100;

int64_t product(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{1}, std::multiplies<>());
}

// Bytes of an array of this shape; throws rather than overflow.
uint64_t checked_bytes(const std::vector<int64_t>& shape, DType type, uint64_t most,
                       const std::string& what) {
  auto bytes = static_cast<uint64_t>(size_of(type));
  for (const int64_t extent : shape) {
    if (extent < 0) throw DataError(what, " has the impossible shape ", shape_text(shape));
    if (extent > 0 && bytes > most / static_cast<uint64_t>(extent))
      throw DataError(what, " has the shape ", shape_text(shape), ", more than ", byte_size(most),
                      "; write it again in smaller pieces");
    bytes *= static_cast<uint64_t>(extent);
  }
  return bytes;
}

void check_inside(const FileLayout& layout, uint64_t offset, uint64_t bytes, const std::string& what) {
  if (offset <= layout.file_bytes && bytes <= layout.file_bytes - offset) return;
  throw DataError(what, " reaches to byte ", offset + bytes, ", the file has ", layout.file_bytes,
                  " bytes: it was cut short; copy or fetch it again");
}

void check_chunks(const FileLayout& layout, const FieldLayout& field, const std::string& what) {
  if (field.chunk_shape.size() != field.shape.size() || std::ranges::min(field.chunk_shape) < 1)
    throw DataError(what, " of shape ", shape_text(field.shape), " has chunks of the impossible shape ",
                    shape_text(field.chunk_shape));
  const uint64_t decoded =
      checked_bytes(field.chunk_shape, field.type, most_chunk_bytes, "a chunk of " + what);
  if (field.chunks.size() != static_cast<size_t>(product(chunk_grid(field))))
    throw DataError(what, " has ", field.chunks.size(), " chunks where its shape asks for ",
                    product(chunk_grid(field)));
  uint64_t stored = 0;
  for (size_t i = 0; i < field.chunks.size(); ++i) {
    const Chunk& chunk = field.chunks[i];
    if (chunk.bytes == 0) continue;
    const std::string name = text("chunk ", i, " of ", what);
    check_inside(layout, chunk.offset, chunk.bytes, name);
    if (field.filters.empty() && chunk.bytes != decoded)
      throw DataError(name, " has ", chunk.bytes, " bytes where ", decoded,
                      " were expected; the file is damaged");
    if (decoded / most_compression > chunk.bytes)
      throw DataError(name, " promises ", byte_size(decoded), " from ", chunk.bytes,
                      " stored bytes, which no compression gives; the file is damaged or hostile");
    stored += chunk.bytes;
  }
  const uint64_t declared = checked_bytes(field.shape, field.type, most_field_bytes, what);
  if (declared / most_compression > std::max<uint64_t>(stored, 1))
    throw DataError(what, " of shape ", shape_text(field.shape), " promises ", byte_size(declared),
                    " but only ", byte_size(stored), " of it were ever written; write all of it");
}

void check_field(const FileLayout& layout, const FieldLayout& field) {
  const std::string what = text("dataset '", field.name, "' of ", layout.path);
  if (field.shape.empty()) throw DataError(what, " has no dimension; a field needs one for its samples");
  const std::vector<int64_t> sample(field.shape.begin() + 1, field.shape.end());
  if (checked_bytes(sample, field.type, most_field_bytes, "a sample of " + what) == 0)
    throw DataError(what, " has the shape ", shape_text(field.shape), ": its samples are empty");
  const uint64_t bytes = checked_bytes(field.shape, field.type, most_field_bytes, what);
  if (field.chunk_shape.empty())
    check_inside(layout, field.offset, bytes, what);
  else
    check_chunks(layout, field, what);
}

}  // namespace

uint64_t sample_bytes(const FieldLayout& field) {
  const std::vector<int64_t> shape(field.shape.begin() + 1, field.shape.end());
  return static_cast<uint64_t>(product(shape) * size_of(field.type));
}

uint64_t chunk_bytes(const FieldLayout& field) {
  return static_cast<uint64_t>(product(field.chunk_shape) * size_of(field.type));
}

std::vector<int64_t> chunk_grid(const FieldLayout& field) {
  std::vector<int64_t> grid;
  for (size_t d = 0; d < field.shape.size(); ++d)
    grid.push_back(field.shape[d] / field.chunk_shape[d] + (field.shape[d] % field.chunk_shape[d] != 0));
  return grid;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (const int64_t extent : shape) out += text(out.empty() ? "" : ", ", extent);
  return "(" + out + ")";
}

void check_layout(const FileLayout& layout) {
  for (const FieldLayout& field : layout.fields) check_field(layout, field);
  for (const FieldLayout& field : layout.texts) {
    if (field.type != DType::u8 || field.shape.size() != 2)
      throw DataError("dataset '", field.name, "' of ", layout.path,
                      " is no text of a fixed length per sample");
    check_field(layout, field);
  }
}

}  // namespace lab::detail
