#include "comm/bf16_sum.h"

#include <algorithm>
#include <array>
#include <bit>

#include "lab/core/error.h"

namespace lab {
namespace {

constexpr int64_t block = 1024;  // sums that stay in the nearest cache while all ranks' words pass through it

uint16_t word_of(float number) {
  const auto bits = std::bit_cast<uint32_t>(number);
  const uint32_t nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet_nan : nearest);
}

float number_of(uint16_t word) { return std::bit_cast<float>(static_cast<uint32_t>(word) << 16); }

void add_bf16(const uint16_t* __restrict more, int64_t n, float* __restrict to) {
  for (int64_t i = 0; i < n; ++i) to[i] += number_of(more[i]);
}

Buffer as_bytes(uint16_t* words, Range range) { return {words + range.first, 2 * range.count, DType::u8}; }

}  // namespace

void to_bf16(const float* __restrict from, int64_t n, uint16_t* __restrict to) {
  for (int64_t i = 0; i < n; ++i) to[i] = word_of(from[i]);
}

void from_bf16(const uint16_t* __restrict from, int64_t n, float* __restrict to) {
  for (int64_t i = 0; i < n; ++i) to[i] = number_of(from[i]);
}

// Rank j gets piece j of everyone, adds them up, and sends the sum to everyone.
void Bf16Sum::all_reduce(Communicator& comm, Buffer sums) {
  if (sums.type != DType::f32) throw Bug("elements of type ", name_of(sums.type), " cannot travel as bf16");
  const int ranks = comm.size(), me = comm.rank();
  if (ranks == 1 || sums.count == 0) return;
  const auto piece = [&](int rank) { return shard(sums.count, rank, ranks); };
  const Range mine = piece(me);
  words_.resize(std::max(words_.size(), static_cast<size_t>(sums.count)));
  pieces_.resize(std::max(pieces_.size(), static_cast<size_t>(mine.count * ranks)));
  to_bf16(static_cast<const float*>(sums.data), sums.count, words_.data());
  std::vector<Message> sends, receives;
  for (int r = 0; r < ranks; ++r) {
    if (r == me) continue;
    sends.push_back({r, as_bytes(words_.data(), piece(r))});
    receives.push_back({r, as_bytes(pieces_.data(), {r * mine.count, mine.count})});
  }
  comm.exchange(sends, receives);
  add_pieces(me, ranks, mine);
  for (Message& message : sends) message.buffer = as_bytes(words_.data(), mine);
  for (Message& message : receives) message.buffer = as_bytes(words_.data(), piece(message.peer));
  comm.exchange(sends, receives);
  from_bf16(words_.data(), sums.count, static_cast<float*>(sums.data));
}

// In the order of the ranks; this rank's own words are rounded like the others', so that it does not matter
// who adds.
void Bf16Sum::add_pieces(int rank, int ranks, Range mine) {
  alignas(64) std::array<float, block> sum;
  for (int64_t first = 0; first < mine.count; first += block) {
    const int64_t n = std::min(block, mine.count - first);
    const auto words = [&](int r) {
      return (r == rank ? words_.data() + mine.first : pieces_.data() + r * mine.count) + first;
    };
    from_bf16(words(0), n, sum.data());
    for (int r = 1; r < ranks; ++r) add_bf16(words(r), n, sum.data());
    to_bf16(sum.data(), n, words(rank));
  }
}

}  // namespace lab
