#pragma once
// Reads one chunk and undoes its filters: the reading half of HDF5's shuffle, deflate and fletcher32.

#include <cstddef>
#include <vector>

#include "data/input_file.h"
#include "lab/data/layout.h"

namespace lab::detail {

// The elements of chunk `index` as the file's writer had them; zeros where it was never written. Throws
// DataError, with the place and the reason, when it does not decode.
std::vector<std::byte> read_chunk(const InputFile& file, const FieldLayout& field, size_t index);

}  // namespace lab::detail
