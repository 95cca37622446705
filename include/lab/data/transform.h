#pragma once
// Per-sample transforms. Each is a value; an experiment lists them in the order in which they run.

#include <functional>
#include <string>
#include <vector>

#include "lab/core/random.h"
#include "lab/data/sample.h"

namespace lab {

// `apply` changes the sample in place. It may run on several threads at once, so it must not write to shared
// state. Its random numbers are a function of (seed, epoch, sample id, place of the transform in the list),
// never of rank or order. It throws DataError for a sample it cannot take.
struct Transform {
  std::string name;  // for messages: "shift(images, 2)"
  std::function<void(Sample&, Rng&)> apply;
};
using Transforms = std::vector<Transform>;

// Any function as a transform.
Transform map(std::string name, std::function<void(Sample&, Rng&)> apply);

// Values times `factor`, as floats of the run's precision: any integer or float part becomes f32 (64-true:
// f64).
Transform scale(std::string part, double factor);
// Values divided by `divisor`, likewise. divide("images", 255) gives the floats nearest to v / 255, which v
// times the rounded 1.0 / 255 does not.
Transform divide(std::string part, double divisor);
// Adds a leading dimension of one to images (H, W) -> (1, H, W): the channel that convolutions want.
Transform add_channel(std::string part);
// Turns (..., H, W) upside down with this probability.
Transform flip_vertical(std::string part, double probability);
Transform flip_horizontal(std::string part, double probability);
// Moves (..., H, W) by up to `most` pixels along each axis, uniformly; what is moved in is zero.
Transform shift(std::string part, int64_t most);
// An integer label in [0, classes) as one-hot floats (classes), or as an i64 scalar; DataError (file's field,
// sample id, value, range) for any other.
Transform one_hot(std::string part, int64_t classes);
Transform class_index(std::string part, int64_t classes);

}  // namespace lab
