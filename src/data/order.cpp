#include "lab/data/order.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "lab/core/error.h"
#include "lab/core/random.h"

namespace lab {
namespace {

// Six rounds of a Feistel network with a good round function look random; two more leave no doubt on tiny
// halves.
constexpr uint64_t rounds = 8;
// Halves of fewer bits than this have so few round functions that some orders of a few samples come up more
// often.
constexpr int least_half_bits = 4;

// Entry `index` of the SplitMix64 sequence of `key` (Steele, Lea and Flood, "Fast splittable pseudorandom
// number generators", 2014).
uint64_t split_mix(uint64_t key, uint64_t index) {
  uint64_t z = key + (index + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// A permutation of [0, 4^half_bits).
uint64_t feistel(uint64_t key, int half_bits, uint64_t value) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits, right = value & mask;
  for (uint64_t round = 0; round < rounds; ++round) {
    const uint64_t mixed = left ^ (split_mix(key, right * rounds + round) & mask);
    left = right;
    right = mixed;
  }
  return (left << half_bits) | right;
}

}  // namespace

ShuffledOrder::ShuffledOrder(uint64_t seed, uint64_t epoch, int64_t n)
    : size_(static_cast<uint64_t>(n)), key_(random_key(seed, Purpose::order, epoch, size_)) {}

int64_t ShuffledOrder::operator()(int64_t position) const {
  if (position < 0 || std::cmp_greater_equal(position, size_))
    throw Bug("position ", position, " in an order of ", size_, " samples");
  const int half_bits = std::max(least_half_bits, (static_cast<int>(std::bit_width(size_ - 1)) + 1) / 2);
  // The network permutes a power of four, for all but tiny sets less than four times n; walking along the
  // cycle of `position` until it is back below n makes a permutation of [0, n) of it.
  uint64_t value = static_cast<uint64_t>(position);
  do value = feistel(key_, half_bits, value);
  while (value >= size_);
  return static_cast<int64_t>(value);
}

}  // namespace lab
