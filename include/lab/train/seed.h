#pragma once
// torch's own generator as a function of what its numbers are for.

#include <c10/core/Device.h>

#include <cstdint>

#include "lab/core/random.h"

namespace lab {

// Torch's random numbers on this rank's CPU, and on its device, from here on: weights at their making,
// dropout in a micro-batch.
void seed_torch(uint64_t seed, Purpose purpose, uint64_t step = 0, uint64_t leaf = 0,
                c10::Device device = c10::kCPU);

}  // namespace lab
