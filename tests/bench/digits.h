#pragma once
// The samples that peers of lab train on, which find them ready in memory.

#include <torch/types.h>

#include <string>

#include "lab/data/reader.h"
#include "lab/lab.h"

namespace bench {

struct Digits {
  at::Tensor images, labels;
};

// All 6,000 of them, as a network wants them.
inline Digits read_digits(const std::string& path) {
  const lab::Source source(lab::hdf5(path, {"images", "labels"}), lab::read_layout(path));
  const auto batch = lab::make_batch(
      source, {lab::divide("images", 255), lab::add_channel("images"), lab::class_index("labels", 10)}, {},
      {0, {0, source.size()}});
  const auto tensor = [&](size_t i, at::ScalarType type) {
    return torch::from_blob(batch.parts[i].bytes.get(), batch.parts[i].shape, type).clone();
  };
  return {tensor(0, torch::kFloat32), tensor(1, torch::kInt64)};
}

}  // namespace bench
