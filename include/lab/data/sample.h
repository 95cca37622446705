#pragma once
// One sample on its way from the file to a batch.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lab/core/dtype.h"

namespace lab {

// One named array of a sample: shape without the sample dimension, row-major, elements of one type.
struct Part {
  std::string name;
  DType type = DType::f32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;  // keeps its capacity from sample to sample
  int64_t elements() const;
  template <class T>
  T* data() {
    return reinterpret_cast<T*>(bytes.data());
  }
  template <class T>
  const T* data() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

struct Sample {
  int64_t id = 0;                // its index in the file's fields
  DType precision = DType::f32;  // what transforms that make floats make: f32 or f64
  std::vector<Part> parts;
  Part& operator[](std::string_view name);  // throws ConfigError naming the parts there are
};

}  // namespace lab
