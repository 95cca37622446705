#pragma once
// Where the samples of an HDF5 file lie. Read once, by a helper process on rank 0 (a hostile file may crash
// the HDF5 library, not the job), sent to all ranks as text; from then on only bytes at known offsets are
// read.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

struct Chunk {
  uint64_t offset = 0, bytes = 0;  // in the file; bytes as stored
  uint32_t filter_mask = 0;        // bit i set: filter i of the pipeline was left out for this chunk
};

enum class Filter { shuffle, deflate, fletcher32 };

struct FieldLayout {
  std::string name = {};
  DType type = DType::u8;
  bool big_endian = false;
  std::vector<int64_t> shape = {};        // first dimension: samples
  uint64_t offset = 0;                    // contiguous: where the data starts
  std::vector<int64_t> chunk_shape = {};  // empty: contiguous
  std::vector<Filter> filters = {};       // in the order in which they were applied on writing
  std::vector<Chunk> chunks = {};         // row-major over their grid; bytes 0: never written, reads as zeros
  int64_t samples() const { return shape.empty() ? 0 : shape.front(); }
};

struct FileLayout {
  std::string path;
  uint64_t file_bytes = 0;
  std::vector<FieldLayout> fields;      // all datasets of the root group that can be read
  std::vector<FieldLayout> texts = {};  // of a fixed length, one per sample: u8 (N, length)
  const FieldLayout& field(const std::string& name) const;  // throws DataError naming the fields there are
  // What can be metadata: a field or texts. Throws DataError naming what there is.
  const FieldLayout& metadata(const std::string& name) const;
};

std::string to_text(const FileLayout&);           // JSON
FileLayout layout_from_text(const std::string&);  // throws DataError; what it returns is safe to read by

// Reads the layout in this process, with the HDF5 library, which wants one thread at a time. Throws
// InputNotFound, IoError, DataError (not an HDF5 file, truncated, something refused by name: which, and what
// to do).
FileLayout read_layout(const std::string& path);

// The same by running `lab_data layout PATH`; a crash there is a DataError here. `helper` is that program;
// when it is empty, lab_data in the folder of this program. Throws Unavailable when it is not there.
FileLayout read_layout_in_helper(const std::string& path, const std::string& helper = "");

}  // namespace lab
