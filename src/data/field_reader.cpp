#include "data/field_reader.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "data/chunk_decoder.h"
#include "data/elements.h"
#include "data/geometry.h"

namespace lab::detail {
namespace {

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

void copy_box(const Box& box, size_t dimension, const std::byte* chunk, std::byte* sample) {
  if (dimension + 1 == box.extent.size()) {
    std::memcpy(sample, chunk, static_cast<size_t>(box.extent[dimension] * box.chunk_step[dimension]));
    return;
  }
  for (int64_t i = 0; i < box.extent[dimension]; ++i)
    copy_box(box, dimension + 1, chunk + i * box.chunk_step[dimension],
             sample + i * box.sample_step[dimension]);
}

// Small fields in one piece are kept whole: a call to the kernel takes longer than a small sample. So much of
// each field, and of all fields of the process together, of which there may be thousands.
constexpr uint64_t most_of_field = uint64_t{8} << 20, most_of_all = uint64_t{64} << 20;
std::atomic<uint64_t> kept = 0;

}  // namespace

FieldReader::FieldReader(const InputFile& file, ChunkCache& cache, size_t key, const FieldLayout& layout)
    : file_(file),
      cache_(cache),
      key_(key),
      layout_(layout),
      sample_shape_(layout.shape.begin() + 1, layout.shape.end()),
      sample_bytes_(detail::sample_bytes(layout)) {
  if (layout.chunk_shape.empty()) return;
  row_bytes_ = static_cast<int64_t>(chunk_bytes(layout)) / layout.chunk_shape.front();
  const std::vector<int64_t> grid = chunk_grid(layout);
  int64_t columns = 1;
  for (size_t d = 1; d < grid.size(); ++d) columns *= grid[d];
  for (int64_t column = 0; column < columns; ++column) boxes_.push_back(make_box(layout, grid, column));
}

FieldReader::~FieldReader() { kept -= whole_.size(); }

// Whether it does; reads it the first time, and again where that failed. Not std::call_once, which need not
// survive an exception: the thread sanitizer's waits for ever afterwards.
bool FieldReader::keeps_whole() const {
  if (!was_tried_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(first_read_);
    const uint64_t all = static_cast<uint64_t>(layout_.samples()) * sample_bytes_;
    if (!was_tried_ && all <= most_of_field && kept + all <= most_of_all) {
      std::vector<std::byte> bytes(all);
      file_.read(layout_.offset, bytes);
      whole_ = std::move(bytes);
      kept += all;
    }
    was_tried_.store(true, std::memory_order_release);
  }
  return !whole_.empty();
}

void FieldReader::read(int64_t id, std::span<std::byte> bytes) const {
  const uint64_t place = static_cast<uint64_t>(id) * sample_bytes_;
  if (!layout_.chunk_shape.empty())
    read_chunked(id, bytes);
  else if (keeps_whole())
    std::memcpy(bytes.data(), whole_.data() + place, bytes.size());
  else
    file_.read(layout_.offset + place, bytes);
  if (layout_.big_endian) swap_byte_order(bytes, static_cast<size_t>(size_of(layout_.type)));
}

void FieldReader::read_chunked(int64_t id, std::span<std::byte> bytes) const {
  const int64_t samples_per_chunk = layout_.chunk_shape.front();
  const size_t first_chunk = static_cast<size_t>(id / samples_per_chunk) * boxes_.size();
  for (size_t column = 0; column < boxes_.size(); ++column) {
    const Box& box = boxes_[column];
    const auto decoded = chunk(first_chunk + column);
    const std::byte* row = decoded->data() + id % samples_per_chunk * row_bytes_;
    if (box.extent.empty())
      std::memcpy(bytes.data(), row, bytes.size());  // one number per sample
    else
      copy_box(box, 0, row, bytes.data() + box.sample_offset);
  }
}

ChunkCache::Bytes FieldReader::chunk(size_t index) const {
  if (auto cached = cache_.find({key_, index})) return cached;
  auto decoded = std::make_shared<const std::vector<std::byte>>(read_chunk(file_, layout_, index));
  cache_.add({key_, index}, decoded);
  return decoded;
}

}  // namespace lab::detail
