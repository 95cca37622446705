#pragma once
// Which gradients travel together: a pure function of their sizes.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lab/core/dtype.h"
#include "lab/core/range.h"

namespace lab {

struct Bucket {
  Range slots;     // parameters, in flat order
  Range elements;  // of the flat gradient
};

// Cuts consecutive slots into buckets of about cap_bytes (first_cap_bytes for the first, so that
// communication starts early); a larger slot is a bucket of its own. The last bucket also holds the elements
// behind the last slot, up to `total`: there the loss and its weight ride. Never empty.
std::vector<Bucket> plan_buckets(std::span<const Range> slots, int64_t total, int64_t element_bytes,
                                 int64_t first_cap_bytes, int64_t cap_bytes);

// A line for each bucket: what all ranks must have the same of.
std::string text_of(std::span<const Bucket> buckets, DType type);

}  // namespace lab
