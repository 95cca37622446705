#pragma once
// Writes the data files that the rest of the layer reads.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

// One dataset of the root group: `shape` and its elements, row-major, in native byte order; or texts, each of
// `text_bytes` bytes with zeros behind it, and no type. Not owned.
struct NewField {
  std::string name;
  DType type = DType::u8;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  int64_t text_bytes = 0;  // 0: numbers
};

// Writes contiguous datasets, whole or not at all, in place of a file of that name; the same fields give the
// same bytes. Any type but f16, bf16 and bool. Throws IoError.
void write_hdf5(const std::string& path, const std::vector<NewField>& fields);

}  // namespace lab
