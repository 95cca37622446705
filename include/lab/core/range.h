#pragma once
// Contiguous shares of a whole: how batches, shards, slices and chunks are divided.

#include <cstdint>

namespace lab {

// A stretch of positions: [first, first + count).
struct Range {
  int64_t first = 0;
  int64_t count = 0;
  constexpr int64_t end() const { return first + count; }
  bool operator==(const Range&) const = default;
};

// What is in both; empty where nothing is.
constexpr Range overlap(Range a, Range b) {
  const int64_t first = a.first > b.first ? a.first : b.first, end = a.end() < b.end() ? a.end() : b.end();
  return {first, end > first ? end - first : 0};
}

// Part `index` of `n` positions cut into `parts` contiguous ranges whose lengths differ by one at most,
// longer ones first. Empty ranges where there are more parts than positions.
constexpr Range shard(int64_t n, int64_t index, int64_t parts) {
  const int64_t least = n / parts, longer = n % parts;
  return {index * least + (index < longer ? index : longer), least + (index < longer ? 1 : 0)};
}

}  // namespace lab
