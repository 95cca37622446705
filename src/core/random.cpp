#include "lab/core/random.h"

#include <cstddef>

namespace lab {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

namespace {

uint64_t absorb(uint64_t state, uint64_t value) {
  const auto out = philox({static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32), 0x6c616221, 0},
                          {static_cast<uint32_t>(state), static_cast<uint32_t>(state >> 32)});
  return out[0] | (uint64_t{out[1]} << 32);
}

}  // namespace

uint64_t random_key(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b, uint64_t c) {
  // One key after another is of the same sample, or at least of the same epoch: what the numbers in front
  // came to is kept.
  thread_local struct {
    bool known = false;
    uint64_t seed = 0, purpose = 0, a = 0, b = 0, up_to_a = 0, up_to_b = 0;
  } last;
  const auto why = static_cast<uint64_t>(purpose);
  const bool same = last.known && last.seed == seed && last.purpose == why && last.a == a;
  if (!same) last.up_to_a = absorb(absorb(seed, why), a);
  if (!same || last.b != b) last.up_to_b = absorb(last.up_to_a, b);
  last = {true, seed, why, a, b, last.up_to_a, last.up_to_b};
  return absorb(last.up_to_b, c);
}

uint32_t Rng::bits() {
  if (used_ == 4) {
    numbers_ = philox({static_cast<uint32_t>(block_), static_cast<uint32_t>(block_ >> 32), 0, 0},
                      {static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)});
    ++block_;
    used_ = 0;
  }
  return numbers_[static_cast<size_t>(used_++)];
}

double Rng::uniform() {
  const uint64_t high = bits() >> 5, low = bits() >> 6;
  return static_cast<double>((high << 26) | low) * 0x1p-53;
}

int64_t Rng::integer(int64_t low, int64_t high) {
  const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1;  // 0: all 64 bits
  uint64_t value = bits() | (uint64_t{bits()} << 32);
  if (span != 0) {
    const uint64_t limit =
        UINT64_MAX - UINT64_MAX % span;  // above it the remainder would favour small values
    while (value >= limit) value = bits() | (uint64_t{bits()} << 32);
    value %= span;
  }
  return static_cast<int64_t>(static_cast<uint64_t>(low) + value);
}

}  // namespace lab
