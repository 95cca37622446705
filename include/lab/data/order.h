#pragma once
// Which samples, in which order, on which rank: pure functions, no state, O(1) at any position.

#include <cstdint>

#include "lab/core/range.h"  // Range, shard

namespace lab {

// The shuffled order of n samples in an epoch: a bijection of [0, n), by a keyed Feistel network with cycle
// walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Equal on all ranks.
class ShuffledOrder {
 public:
  ShuffledOrder(uint64_t seed, uint64_t epoch, int64_t n);
  // The sample at this position.
  int64_t operator()(int64_t position) const;

 private:
  uint64_t size_ = 0, key_ = 0;
};
inline int64_t shuffled(uint64_t seed, uint64_t epoch, int64_t n, int64_t position) {
  return ShuffledOrder(seed, epoch, n)(position);
}

}  // namespace lab
