#pragma once
// Reads idx files, the format in which MNIST and its relatives are published.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

// The array of one idx file, row-major, in native byte order.
struct IdxArray {
  DType type = DType::u8;
  std::vector<int64_t> shape;  // first: samples
  std::vector<std::byte> bytes;
};

// Plain or compressed with gzip. Throws InputNotFound, IoError, or DataError: not idx, damaged, shorter or
// longer than its header says.
IdxArray read_idx(const std::string& path);

}  // namespace lab
