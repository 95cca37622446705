#pragma once
// How a list of transforms runs over one sample: its random numbers, and what is said when one fails.

#include <cstdint>
#include <functional>
#include <string>

#include "lab/data/transform.h"

namespace lab::detail {

// What the random numbers depend on, beside the sample's id and the place in the list. `first_place`: that of
// the list's first transform.
struct Draws {
  uint64_t seed = 0, epoch = 0, first_place = 0;
};

// `place` says which sample it is: "sample 17 of x.h5". Throws DataError or ConfigError, which begin with the
// transform and the place.
void run(const Transforms& transforms, Sample& sample, const Draws& draws,
         const std::function<std::string()>& place);

}  // namespace lab::detail
