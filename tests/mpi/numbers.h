#pragma once
// A small data set for the trainer's tests.

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "lab/core/random.h"
#include "lab/core/text.h"
#include "lab/data/source.h"
#include "unit/temporary_folder.h"

inline constexpr int64_t number_features = 6;

// Numbers in a plain file: "x", six floats, and "labels", one of three classes, for each sample.
inline std::shared_ptr<const lab::Source> numbers(const lab::test::TemporaryFolder& folder, int64_t samples) {
  const auto rows = static_cast<size_t>(samples);
  std::string bytes(rows * (number_features * sizeof(float) + sizeof(int64_t)), '\0');
  char* at = bytes.data();
  lab::Rng rng(5, lab::Purpose::user, 0);
  std::vector<int64_t> labels;
  for (size_t i = 0; i < rows; ++i) {
    float sum = 0;
    for (int64_t j = 0; j < number_features; ++j, at += sizeof(float)) {
      const auto value = static_cast<float>(rng.uniform() - 0.5);
      std::memcpy(at, &value, sizeof value);
      sum += value;
    }
    labels.push_back(sum > 0.5F ? 2 : sum > 0 ? 1 : 0);
  }
  std::memcpy(at, labels.data(), labels.size() * sizeof(int64_t));
  const std::string path = folder / lab::text("numbers", samples);
  lab::test::write_bytes(path, bytes);
  lab::FileLayout layout{path, bytes.size(), {}};
  layout.fields.push_back({.name = "x", .type = lab::DType::f32, .shape = {samples, number_features}});
  layout.fields.push_back({.name = "labels",
                           .type = lab::DType::i64,
                           .shape = {samples},
                           .offset = rows * number_features * sizeof(float)});
  return std::make_shared<const lab::Source>(lab::Dataset(path, {"x", "labels"}), layout);
}
