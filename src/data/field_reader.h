#pragma once
// Reads the samples of one field by plain reads at known offsets.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "data/chunk_cache.h"
#include "data/input_file.h"
#include "lab/data/layout.h"

namespace lab::detail {

// The part of a sample that lies in one chunk, without the sample dimension. Steps are bytes between
// neighbours.
struct Box {
  std::vector<int64_t> extent, chunk_step, sample_step;
  int64_t sample_offset = 0;
};

// What is fixed about a field, worked out once. File and cache are not owned, and must outlive it; `key` is
// the field's own in the cache. Several threads may read.
class FieldReader {
 public:
  FieldReader(const InputFile& file, ChunkCache& cache, size_t key, const FieldLayout& layout);
  ~FieldReader();
  FieldReader(const FieldReader&) = delete;
  FieldReader& operator=(const FieldReader&) = delete;

  const FieldLayout& layout() const { return layout_; }
  const std::vector<int64_t>& sample_shape() const { return sample_shape_; }
  uint64_t sample_bytes() const { return sample_bytes_; }
  // Fills `bytes` (sample_bytes() of them) with the sample at this place of the field, in native byte order.
  void read(int64_t id, std::span<std::byte> bytes) const;

 private:
  ChunkCache::Bytes chunk(size_t index) const;
  void read_chunked(int64_t id, std::span<std::byte> bytes) const;
  bool keeps_whole() const;

  const InputFile& file_;
  ChunkCache& cache_;
  size_t key_;
  FieldLayout layout_;
  std::vector<int64_t> sample_shape_;
  uint64_t sample_bytes_ = 0;
  std::vector<Box>
      boxes_;  // of the chunks that share one stretch of samples, in the order of the file's chunks
  int64_t row_bytes_ = 0;  // of one sample's part in a chunk
  mutable std::mutex first_read_;
  mutable std::atomic<bool> was_tried_ = false;
  mutable std::vector<std::byte> whole_;  // all samples, where they are few bytes; else empty
};

}  // namespace lab::detail
