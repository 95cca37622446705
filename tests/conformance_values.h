#pragma once
// What the conformance suite sends: values that every rank can work out for all ranks.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "lab/comm/communicator.h"

namespace lab::test {

// How many elements: none, one, an odd number, about what goes in one message (4096 bytes), more than any
// piece.
template <class T>
std::vector<int64_t> counts() {
  constexpr int64_t small = 4096 / static_cast<int64_t>(sizeof(T));
  return {0, 1, 3, small - 1, small, small + 1, 8191, 150 * small + 7};
}

template <class T>
constexpr DType type_of = std::is_same_v<T, uint8_t>   ? DType::u8
                          : std::is_same_v<T, int64_t> ? DType::i64
                          : std::is_same_v<T, float>   ? DType::f32
                                                       : DType::f64;

// Where a test's buffers lie: `offset` bytes into memory of the communicator, or in some other memory.
enum class Where { inside, inside_further, outside };

template <class T>
class Values {
 public:
  Values(Communicator& comm, int64_t count, Where where) : count_(count) {
    const int64_t offset = where == Where::inside_further ? 24 : 0;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T)) + offset;
    memory_ = where == Where::outside ? plain_memory(bytes) : comm.allocate(bytes);
    first_ = reinterpret_cast<T*>(memory_.data.get() + offset);
  }
  Buffer buffer() const { return {first_, count_, type_of<T>}; }
  T& operator[](int64_t i) { return first_[i]; }
  // Fails the test unless element i is value(i), to the bit.
  template <class Value>
  void expect(const Value& value, const std::string& what) const {
    for (int64_t i = 0; i < count_; ++i) {
      const T wanted = value(i);
      if (std::memcmp(&first_[i], &wanted, sizeof(T)) == 0) continue;
      ADD_FAILURE() << what << ": element " << i << " of " << count_ << " is " << +first_[i] << ", not "
                    << +wanted;
      return;
    }
  }

 private:
  BufferMemory memory_;
  int64_t count_;
  T* first_;
};

// Whole numbers, so that a sum is the same in any order; of up to 11 ranks in bf16 too.
template <class T>
T whole(int rank, int64_t i, uint64_t salt = 0) {
  const auto mixed = static_cast<uint64_t>(i) * 31 + static_cast<uint64_t>(rank) * 17 + salt * 7;
  return static_cast<T>(mixed % 23);
}

template <class T, class OfRank>
T over_ranks(ReduceOp op, int ranks, const OfRank& of_rank) {
  T value = of_rank(0);
  for (int r = 1; r < ranks; ++r) {
    const T next = of_rank(r);
    value = op == ReduceOp::sum   ? static_cast<T>(value + next)
            : op == ReduceOp::min ? std::min(value, next)
                                  : std::max(value, next);
  }
  return value;
}

// A number that loses digits when others are added.
template <class T>
T rough(int rank, int64_t i) {
  uint64_t mixed = (static_cast<uint64_t>(i) * 64 + static_cast<uint64_t>(rank) + 1) * 0x9E3779B97F4A7C15u;
  mixed ^= mixed >> 31;
  const double digits = static_cast<double>(static_cast<int64_t>(mixed)) / 9.3e18;
  return static_cast<T>(digits * static_cast<double>(1 << (mixed % 24)));
}

// To the nearest number with eight binary digits, of two the even one.
inline float rounded_to_bf16(float number) {
  if (!std::isfinite(number)) return number;
  int exponent = 0;
  std::frexp(number, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent, -125) - 8);
  const double rounded = std::nearbyint(number / unit) * unit;
  if (std::abs(rounded) < std::ldexp(1.0, 128)) return static_cast<float>(rounded);
  return std::copysign(std::numeric_limits<float>::infinity(), number);
}

inline uint64_t hash_of(const Buffer& buffer) {
  uint64_t hash = 14695981039346656037u;
  for (int64_t i = 0; i < buffer.bytes(); ++i)
    hash = (hash ^ static_cast<uint64_t>(static_cast<const std::byte*>(buffer.data)[i])) * 1099511628211u;
  return hash;
}

}  // namespace lab::test
