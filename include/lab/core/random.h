#pragma once
// Random numbers as a pure function of what they are for: (seed, purpose, a, b, c) gives the same stream on
// every rank, in every run, whatever happened before. Philox4x32-10 (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", 2011).

#include <array>
#include <cstdint>

namespace lab {

// What a stream of random numbers is used for; different purposes never share numbers.
enum class Purpose : uint32_t { order = 1, transform = 2, dropout = 3, init = 4, user = 5 };

// Ten rounds of Philox on one counter block.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A 64-bit value that depends on every bit of all of them.
uint64_t random_key(uint64_t seed, Purpose purpose, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);

// A stream of numbers for one key. A value; copying it copies the position.
class Rng {
 public:
  explicit Rng(uint64_t key) : key_(key) {}
  Rng(uint64_t seed, Purpose purpose, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0)
      : key_(random_key(seed, purpose, a, b, c)) {}

  uint32_t bits();
  double uniform();                            // in [0, 1), 53 bits
  int64_t integer(int64_t low, int64_t high);  // in [low, high], both included, without bias
  bool chance(double probability) { return uniform() < probability; }

 private:
  uint64_t key_;
  uint64_t block_ = 0;
  std::array<uint32_t, 4> numbers_{};
  int used_ = 4;
};

}  // namespace lab
