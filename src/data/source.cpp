#include "lab/data/source.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iomanip>
#include <sstream>

#include "data/chunk_cache.h"
#include "data/chunk_decoder.h"
#include "data/elements.h"
#include "data/geometry.h"
#include "data/input_file.h"
#include "lab/core/error.h"

namespace lab {
namespace {

constexpr size_t cache_bytes = size_t{64} << 20;

// The part of a sample that lies in one chunk, without the sample dimension. Steps are bytes between
// neighbours.
struct Box {
  std::vector<int64_t> extent, chunk_step, sample_step;
  int64_t sample_offset = 0;
};

// What is fixed about a field, worked out once.
struct Field {
  FieldLayout layout;
  std::vector<int64_t> sample_shape;
  uint64_t sample_bytes = 0;
  std::vector<Box>
      boxes;  // of the chunks that share one stretch of samples, in the order of the file's chunks
  int64_t row_bytes = 0;  // of one sample's part in a chunk
};

// `column`: which one of the chunks that share a stretch of samples.
Box make_box(const FieldLayout& layout, const std::vector<int64_t>& grid, int64_t column) {
  const size_t rank = layout.shape.size() - 1;
  Box box{std::vector<int64_t>(rank), std::vector<int64_t>(rank), std::vector<int64_t>(rank), 0};
  int64_t chunk_step = size_of(layout.type), sample_step = chunk_step;
  for (size_t d = rank; d-- > 0;) {
    const int64_t chunk_extent = layout.chunk_shape[d + 1], sample_extent = layout.shape[d + 1];
    const int64_t first = column % grid[d + 1] * chunk_extent;
    column /= grid[d + 1];
    box.extent[d] = std::min(chunk_extent, sample_extent - first);
    box.chunk_step[d] = chunk_step;
    box.sample_step[d] = sample_step;
    box.sample_offset += first * sample_step;
    chunk_step *= chunk_extent;
    sample_step *= sample_extent;
  }
  return box;
}

Field make_field(const FieldLayout& layout) {
  Field field{layout, {layout.shape.begin() + 1, layout.shape.end()}, detail::sample_bytes(layout), {}, 0};
  if (layout.chunk_shape.empty()) return field;
  field.row_bytes = static_cast<int64_t>(detail::chunk_bytes(layout)) / layout.chunk_shape.front();
  const std::vector<int64_t> grid = detail::chunk_grid(layout);
  int64_t columns = 1;
  for (size_t d = 1; d < grid.size(); ++d) columns *= grid[d];
  for (int64_t column = 0; column < columns; ++column) field.boxes.push_back(make_box(layout, grid, column));
  return field;
}

void copy_box(const Box& box, size_t dimension, const std::byte* chunk, std::byte* sample) {
  if (dimension + 1 == box.extent.size()) {
    std::memcpy(sample, chunk, static_cast<size_t>(box.extent[dimension] * box.chunk_step[dimension]));
    return;
  }
  for (int64_t i = 0; i < box.extent[dimension]; ++i)
    copy_box(box, dimension + 1, chunk + i * box.chunk_step[dimension],
             sample + i * box.sample_step[dimension]);
}

}  // namespace

struct Source::State {
  Dataset dataset;
  detail::InputFile file;
  std::vector<Field> fields;
  int64_t first = 0, size = 0;
  mutable detail::ChunkCache cache{cache_bytes};

  explicit State(const Dataset& wanted) : dataset(wanted), file(wanted.path()) {}

  detail::ChunkCache::Bytes chunk(size_t field_index, size_t chunk_index) const;
  void read_chunked(size_t field_index, int64_t id, std::span<std::byte> bytes) const;
};

Source::Source(const Dataset& dataset, const FileLayout& layout) : state_(std::make_unique<State>(dataset)) {
  detail::check_layout(layout);
  State& state = *state_;
  if (state.file.size() < layout.file_bytes)
    throw DataError(path(), " has ", state.file.size(), " bytes, it had ", layout.file_bytes,
                    " when its layout was read; leave data files alone during a run");
  for (const std::string& name : dataset.fields()) state.fields.push_back(make_field(layout.field(name)));
  for (const std::string& name : dataset.optional_fields())
    if (std::ranges::find(layout.fields, name, &FieldLayout::name) != layout.fields.end())
      state.fields.push_back(make_field(layout.field(name)));
  const FieldLayout& leader = state.fields.front().layout;
  for (const Field& field : state.fields)
    if (field.layout.samples() != leader.samples())
      throw DataError("'", leader.name, "' of ", path(), " has ", leader.samples(), " samples, '",
                      field.layout.name, "' has ", field.layout.samples(),
                      "; the fields of a dataset need the same first dimension");
  const int64_t all = leader.samples();
  state.first = dataset.first();
  if (state.first >= all)
    throw DataError(path(), " has ", all, " samples; the dataset begins at sample ", state.first,
                    " of it, where none are left: use fewer before");
  state.size = dataset.count() < 0 ? all - state.first : dataset.count();
  if (state.size == 0)
    throw DataError("0 samples of ", path(), " were asked for; it has ", all, ": ask for some");
  if (state.size > all - state.first)
    throw DataError(state.size, " samples of ", path(),
                    state.first ? text(" from sample ", state.first, " on") : "",
                    " were asked for, but it has ", all - state.first, state.first ? " there" : "",
                    "; ask for that many at most");
}

Source::~Source() = default;
Source::Source(Source&&) noexcept = default;

int64_t Source::size() const { return state_->size; }
int64_t Source::file_index(int64_t i) const { return state_->first + i; }
const std::string& Source::path() const { return state_->dataset.path(); }

namespace {

std::string checksum_of_pieces(const detail::InputFile& file) {
  constexpr uint64_t pieces = 64, piece_bytes = 4096;
  const bool whole = file.size() <= pieces * piece_bytes;
  std::vector<std::byte> bytes(whole ? file.size() : pieces * piece_bytes);
  if (whole) {
    file.read(0, bytes);
  } else {
    const uint64_t last = file.size() - piece_bytes, step = last / (pieces - 1);
    for (uint64_t i = 0; i < pieces; ++i)
      file.read(i + 1 < pieces ? i * step : last, std::span(bytes).subspan(i * piece_bytes, piece_bytes));
  }
  std::ostringstream out;
  out << std::hex << std::setw(16) << std::setfill('0') << XXH3_64bits(bytes.data(), bytes.size());
  return out.str();
}

}  // namespace

std::string Source::identity() const {
  std::string out;
  for (const Field& field : state_->fields) {
    std::vector<std::string> sizes;
    for (const int64_t size : field.sample_shape) sizes.push_back(text(size));
    out += text(field.layout.name, ' ', name_of(field.layout.type), " (", join(sizes), ")\n");
  }
  const detail::InputFile& file = state_->file;
  return text(out, state_->size, " samples from sample ", state_->first, " on\n", "a file of ", file.size(),
              " bytes with checksum ", checksum_of_pieces(file), '\n');
}

void Source::read(int64_t i, Sample& sample) const {
  const State& state = *state_;
  if (i < 0 || i >= state.size) throw Bug("sample ", i, " of ", state.size, " in ", path());
  sample.id = file_index(i);
  sample.parts.resize(state.fields.size());
  for (size_t f = 0; f < state.fields.size(); ++f) {
    const Field& field = state.fields[f];
    Part& part = sample.parts[f];
    part.name = field.layout.name;
    part.type = field.layout.type;
    part.shape = field.sample_shape;
    part.bytes.resize(field.sample_bytes);
    if (field.layout.chunk_shape.empty())
      state.file.read(field.layout.offset + static_cast<uint64_t>(sample.id) * field.sample_bytes,
                      part.bytes);
    else
      state.read_chunked(f, sample.id, part.bytes);
    if (field.layout.big_endian) detail::swap_byte_order(part.bytes, static_cast<size_t>(size_of(part.type)));
  }
}

void Source::State::read_chunked(size_t field_index, int64_t id, std::span<std::byte> bytes) const {
  const Field& field = fields[field_index];
  const int64_t samples_per_chunk = field.layout.chunk_shape.front();
  const size_t first_chunk = static_cast<size_t>(id / samples_per_chunk) * field.boxes.size();
  for (size_t column = 0; column < field.boxes.size(); ++column) {
    const Box& box = field.boxes[column];
    const auto decoded = chunk(field_index, first_chunk + column);
    const std::byte* row = decoded->data() + id % samples_per_chunk * field.row_bytes;
    if (box.extent.empty())
      std::memcpy(bytes.data(), row, bytes.size());  // one number per sample
    else
      copy_box(box, 0, row, bytes.data() + box.sample_offset);
  }
}

detail::ChunkCache::Bytes Source::State::chunk(size_t field_index, size_t chunk_index) const {
  if (auto cached = cache.find({field_index, chunk_index})) return cached;
  auto decoded = std::make_shared<const std::vector<std::byte>>(
      detail::read_chunk(file, fields[field_index].layout, chunk_index));
  cache.add({field_index, chunk_index}, decoded);
  return decoded;
}

}  // namespace lab
