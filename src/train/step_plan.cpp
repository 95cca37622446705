#include "lab/train/step_plan.h"

#include <algorithm>

namespace lab {

int64_t steps_per_epoch(int64_t samples, int64_t global_batch) {
  return (samples + global_batch - 1) / global_batch;
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

}  // namespace

std::vector<MicroBatch> micro_batches(const Numerics& numerics, int64_t samples, int64_t global_batch,
                                      int64_t step, int rank, int ranks) {
  const int64_t first = step * global_batch;
  const int64_t count = std::clamp<int64_t>(samples - first, 0, global_batch);
  const int64_t all = leaf_count(numerics, ranks);
  const int64_t used = std::clamp<int64_t>(count / numerics.least_samples, 1, all);
  std::vector<MicroBatch> list;
  place_leaves(leaves_of(numerics, rank, ranks), [&](int64_t leaf, Placement placement) {
    const Range share = leaf < used ? shard(count, leaf, used) : Range{count, 0};
    list.push_back({{first + share.first, share.count}, leaf, placement});
  });
  return list;
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
