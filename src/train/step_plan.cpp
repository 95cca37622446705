#include "lab/train/step_plan.h"

#include <algorithm>

namespace lab {

namespace {

// Rounded up.
int64_t divided(int64_t n, int64_t by) { return n / by + (n % by != 0); }

}  // namespace

int64_t batches_per_epoch(int64_t samples, int64_t global_batch) { return divided(samples, global_batch); }

int64_t steps_per_epoch(int64_t samples, int64_t global_batch, int64_t accumulate) {
  return divided(batches_per_epoch(samples, global_batch), accumulate);
}

int64_t leaf_count(const Numerics& numerics, int ranks) {
  return numerics.canonical ? numerics.leaves : ranks;
}

Range leaves_of(const Numerics& numerics, int rank, int ranks) {
  return shard(leaf_count(numerics, ranks), rank, ranks);
}

namespace {

// Replays how leaves [first, first + count) are pushed and merged: a node is added to its left sibling as
// soon as it is whole, if that sibling was made here too. Calls visit(leaf, placement) and returns the final
// depth.
template <class Visit>
int place_leaves(Range leaves, const Visit& visit) {
  int depth = 0;
  for (int64_t leaf = leaves.first; leaf < leaves.end(); ++leaf) {
    int merges = 0;
    for (int64_t node = leaf, width = 1; node % 2 == 1 && (node - 1) * width >= leaves.first;
         node /= 2, width *= 2)
      ++merges;
    visit(leaf, Placement{depth, merges});
    depth += 1 - merges;
  }
  return depth;
}

// The same for a leaf's micro-batch `i` of `count`: the first makes an entry of its own, the others are added
// to it, and the last one's merges are the leaf's.
Placement placed(Placement leaf, int64_t i, int64_t count) {
  if (count == 1) return leaf;
  if (i == 0) return {leaf.depth, 0};
  return {leaf.depth + 1, i + 1 < count ? 1 : 1 + leaf.merges};
}

// Which batches of the epoch a step has; an epoch without any has an empty one.
Range batches_of(const Numerics& numerics, int64_t samples, int64_t global_batch, int64_t step) {
  const int64_t all = batches_per_epoch(samples, global_batch), first = step * numerics.accumulate;
  return {first, std::clamp<int64_t>(all - first, 1, numerics.accumulate)};
}

// A leaf's part of a batch that has these positions.
MicroBatch part_of(const Numerics& numerics, Range positions, int64_t leaf, int64_t leaves) {
  const int64_t used = std::clamp<int64_t>(positions.count / numerics.least_samples, 1, leaves);
  const Range share = leaf < used ? shard(positions.count, leaf, used) : Range{positions.count, 0};
  MicroBatch part{.positions = {positions.first + share.first, share.count}, .leaf = leaf};
  if (share.count > 0 || !numerics.stand_ins) return part;
  part.positions = {positions.first, std::min(positions.count, numerics.least_samples)};
  part.counts = false;
  return part;
}

}  // namespace

std::vector<MicroBatch> micro_batches(const Numerics& numerics, int64_t samples, int64_t global_batch,
                                      int64_t step, int rank, int ranks) {
  const Range batches = batches_of(numerics, samples, global_batch, step);
  const int64_t leaves = leaf_count(numerics, ranks);
  std::vector<MicroBatch> list;
  place_leaves(leaves_of(numerics, rank, ranks), [&](int64_t leaf, Placement placement) {
    for (int64_t i = 0; i < batches.count; ++i) {
      const int64_t batch = batches.first + i, first = batch * global_batch;
      const Range positions{first, std::clamp<int64_t>(samples - first, 0, global_batch)};
      list.push_back(part_of(numerics, positions, leaf, leaves));
      list.back().batch = batch;
      list.back().placement = placed(placement, i, batches.count);
    }
  });
  return list;
}

int most_partial_sums(const Numerics& numerics, int rank, int ranks) {
  int most = 0;
  const int64_t batches = std::min<int64_t>(numerics.accumulate, 2);
  place_leaves(leaves_of(numerics, rank, ranks), [&](int64_t, Placement placement) {
    for (int64_t i = 0; i < batches; ++i) {
      const Placement at = placed(placement, i, batches);
      most = std::max(most, at.depth + (at.merges == 0));
    }
  });
  return most;
}

int partial_sums(const Numerics& numerics, int rank, int ranks) {
  return place_leaves(leaves_of(numerics, rank, ranks), [](int64_t, Placement) {});
}

int64_t chunk_count(int64_t samples) { return (samples + chunk_positions - 1) / chunk_positions; }

Range chunk(int64_t samples, int64_t index) {
  const int64_t first = index * chunk_positions;
  return {first, std::clamp<int64_t>(samples - first, 0, chunk_positions)};
}

Range chunks_of(int64_t samples, int rank, int ranks) { return shard(chunk_count(samples), rank, ranks); }

}  // namespace lab
