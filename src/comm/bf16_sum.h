#pragma once
// Sums over ranks that travel as bf16 and are added up as f32.

#include <cstdint>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"

namespace lab {

// The nearest bf16, of two the even one; what is too large becomes an infinity, NaN stays NaN. `to` does not
// overlap `from`.
void to_bf16(const float* from, int64_t n, uint16_t* to);
void from_bf16(const uint16_t* from, int64_t n, float* to);

// Communicator::all_reduce_bf16 for a group in which each rank is a node, made of its exchange(). Keeps the
// memory that it needs on the way.
class Bf16Sum {
 public:
  // f32. Every rank must call.
  void all_reduce(Communicator& comm, Buffer sums);

 private:
  void add_pieces(int rank, int ranks, Range mine);
  std::vector<uint16_t> words_;   // of this rank's buffer, then of the sum
  std::vector<uint16_t> pieces_;  // what the others have of the piece that this rank adds up
};

}  // namespace lab
