#pragma once
// A step is a list of micro-batches at fixed positions of its global batches; an evaluation is a list of
// fixed chunks. Pure functions of (samples, global batch, numerics, rank, size): sharding is arithmetic.
//
// A step of k batches (gradient accumulation) is divided once, by the weight of all its samples, so its mean
// gradient is that of one batch of k times the size: to rounding, and for layers that look at one sample at a
// time. BatchNorm and dropout see k batches, each cut into leaves as if it were a step of its own. In
// canonical numerics each leaf adds its k gradients in order before the tree adds the leaves: the same bits
// on any number of ranks, but not those of one batch of k times the size, whose leaves would be k times as
// large.

#include <cstdint>
#include <vector>

#include "lab/core/range.h"

namespace lab {

// How the gradients of a step are summed. Ordinary: one leaf per rank, added by the backend in its order.
// Canonical: `leaves` virtual shards, added in one fixed binary tree (comm/tree.h).
struct Numerics {
  bool canonical = false;
  int64_t leaves = 8;  // canonical only; a power of two
  // Fewest samples of a micro-batch that has any: a short batch goes to fewer leaves (see least_samples_of).
  int64_t least_samples = 1;
  int64_t accumulate = 1;  // batches of a step
  // A rank without samples of a batch computes the batch's first ones, for nothing: its layers talk to those
  // of other ranks.
  bool stand_ins = false;
};

// Where a micro-batch's gradients go on this rank's stack of partial sums: they are added to `merges` of the
// topmost `depth` entries, from the top down, or with merges 0 pushed as a new one.
struct Placement {
  int depth = 0;
  int merges = 0;
  bool operator==(const Placement&) const = default;
};

struct MicroBatch {
  Range positions;    // in the epoch's order; may be empty
  int64_t batch = 0;  // which of the epoch's it is a part of
  int64_t leaf = 0;   // which virtual shard (canonical) or rank (ordinary): keys BatchNorm buffers
  Placement placement = {};
  bool counts = true;  // false: a stand-in, whose loss and gradients are to be nothing
  bool operator==(const MicroBatch&) const = default;
};

int64_t batches_per_epoch(int64_t samples, int64_t global_batch);  // the last one may be smaller
// The last one may have fewer batches.
int64_t steps_per_epoch(int64_t samples, int64_t global_batch, int64_t accumulate = 1);

// The micro-batches of one rank in this step of an epoch, in order: leaf by leaf, and for each leaf the
// step's batches. Never empty: a rank without samples has micro-batches without positions, because it still
// takes part in the sum. So all ranks that hold as many leaves have as many micro-batches.
std::vector<MicroBatch> micro_batches(const Numerics& numerics, int64_t samples, int64_t global_batch,
                                      int64_t step, int rank, int ranks);

// Leaves that this rank computes.
Range leaves_of(const Numerics& numerics, int rank, int ranks);
int64_t leaf_count(const Numerics& numerics, int ranks);

// How many partial sums this rank is left with after all its micro-batches, and has at most on the way there.
int partial_sums(const Numerics& numerics, int rank, int ranks);
int most_partial_sums(const Numerics& numerics, int rank, int ranks);

// Elements of the flat gradient that are added up, measured and updated by one rank: its part of the
// parameters begins at a multiple of so many.
inline constexpr int64_t part_unit = 4096;

// Evaluation: fixed chunks whatever the rank count, so that each sample is computed among the same
// neighbours.
inline constexpr int64_t chunk_positions = 64;
int64_t chunk_count(int64_t samples);
Range chunk(int64_t samples, int64_t index);
Range chunks_of(int64_t samples, int rank, int ranks);

}  // namespace lab
