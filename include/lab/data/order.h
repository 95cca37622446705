#pragma once
// Which samples, in which order, on which rank: pure functions, no state, O(1) at any position.

#include <cstdint>

#include "lab/core/range.h"  // Range, shard

namespace lab {

// The sample at `position` of the shuffled order of n samples in this epoch: a bijection of [0, n), by a
// keyed Feistel network with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains",
// 2002). Equal on all ranks.
int64_t shuffled(uint64_t seed, uint64_t epoch, int64_t n, int64_t position);

}  // namespace lab
