#pragma once
// Which samples, in which order, on which rank: pure functions, no state, O(1) at any position.

#include <cstdint>

namespace lab {

// A stretch of positions: [first, first + count).
struct Range {
  int64_t first = 0;
  int64_t count = 0;
  int64_t end() const { return first + count; }
  bool operator==(const Range&) const = default;
};

// Part `index` of `n` positions cut into `parts` contiguous ranges whose lengths differ by one at most, longer ones
// first. Empty ranges where there are more parts than positions.
Range shard(int64_t n, int64_t index, int64_t parts);

// The sample at `position` of the shuffled order of n samples in this epoch: a bijection of [0, n), by a keyed Feistel
// network with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Equal on all ranks.
int64_t shuffled(uint64_t seed, uint64_t epoch, int64_t n, int64_t position);

}  // namespace lab
