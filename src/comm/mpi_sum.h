#pragma once
// All-reduces of many bytes between nodes, that keep the link busy.

#include <mpi.h>

#include <cstddef>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"

namespace lab {

// The buffer is cut into segments, and each segment into a piece per rank. Who adds up a piece gets it from
// all others and sends them the result (reduce-scatter and all-gather by direct messages: Thakur,
// Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH, 2005). All segments
// are under way at once: while one is added up, others pass. Elements are added in the order of the ranks.
// Keeps the memory that it needs on the way; one thread.
class SegmentedSum {
 public:
  // Whether pieces would be large enough for that; small ones are faster in fewer steps.
  static bool suits(const Buffer& buffer, int ranks);
  // Leaves the result in the buffer. Every rank must call. Throws IoError.
  void all_reduce(MPI_Comm comm, Buffer buffer, ReduceOp op);

 private:
  struct Segment;
  std::vector<std::byte> room_;  // what the others have of the pieces that this rank adds up
};

}  // namespace lab
