#include "lab/train/step_plan.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "lab/comm/tree.h"
#include "lab/core/text.h"

namespace {

using lab::MicroBatch;
using lab::Numerics;
using lab::Range;

// How often each position is seen in an epoch, by all ranks.
std::vector<int> seen_in_an_epoch(const Numerics& numerics, int64_t samples, int64_t batch, int ranks) {
  std::vector<int> seen(static_cast<size_t>(samples), 0);
  for (int64_t step = 0; step < lab::steps_per_epoch(samples, batch, numerics.accumulate); ++step)
    for (int rank = 0; rank < ranks; ++rank)
      for (const auto& mb : lab::micro_batches(numerics, samples, batch, step, rank, ranks)) {
        EXPECT_EQ(mb.batch / numerics.accumulate, step);
        for (int64_t p = mb.positions.first; p < mb.positions.end(); ++p) {
          EXPECT_EQ(p / batch, mb.batch);
          ++seen[static_cast<size_t>(p)];
        }
      }
  return seen;
}

TEST(StepPlan, EveryPositionOnceWhateverTheRanks) {
  for (const bool canonical : {false, true})
    for (const int64_t accumulate : {1, 2, 5})
      for (const int ranks : {1, 2, 3, 4, 8})
        for (const int64_t samples : {1, 3, 17, 100, 128, 1000})
          for (const int64_t batch : {1, 7, 16, 128}) {
            const auto seen = seen_in_an_epoch({canonical, 8, 1, accumulate}, samples, batch, ranks);
            for (const int times : seen) ASSERT_EQ(times, 1);
          }
}

TEST(StepPlan, AStepIsSeveralBatchesAndTheLastHasTheRest) {
  EXPECT_EQ(lab::batches_per_epoch(60, 7), 9);
  EXPECT_EQ(lab::steps_per_epoch(60, 7), 9);
  EXPECT_EQ(lab::steps_per_epoch(60, 7, 4), 3);
  EXPECT_EQ(lab::steps_per_epoch(56, 7, 4), 2);
  EXPECT_EQ(lab::steps_per_epoch(1, 1, std::numeric_limits<int64_t>::max()), 1);
  const Numerics numerics{false, 8, 1, 4};
  EXPECT_EQ(lab::micro_batches(numerics, 60, 7, 1, 0, 2).size(), 4u);
  const auto rest = lab::micro_batches(numerics, 60, 7, 2, 1, 2);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0], (MicroBatch{{58, 2}, 8, 1, {0, 0}}));
}

TEST(StepPlan, AShortBatchGoesToFewerLeaves) {
  for (const bool canonical : {false, true})
    for (const int ranks : {1, 2, 3, 4, 8})
      for (int64_t samples = 2; samples < 40; ++samples) {
        int64_t seen = 0;
        for (int rank = 0; rank < ranks; ++rank)
          for (const auto& mb : lab::micro_batches({canonical, 8, 2}, samples, 64, 0, rank, ranks)) {
            EXPECT_NE(mb.positions.count, 1);
            seen += mb.positions.count;
          }
        EXPECT_EQ(seen, samples);
      }
}

TEST(StepPlan, ARankWithoutSamplesStandsIn) {
  const Numerics numerics{.least_samples = 2, .accumulate = 2, .stand_ins = true};
  for (const int64_t samples : {13, 12, 10})  // the second batch, of 8, has 5, 4 or 2
    for (int rank = 0; rank < 3; ++rank) {
      const auto list = lab::micro_batches(numerics, samples, 8, 0, rank, 3);
      ASSERT_EQ(list.size(), 2u);
      EXPECT_TRUE(list[0].counts);
      EXPECT_EQ(list[1].counts, rank < (samples - 8) / 2);
      EXPECT_TRUE(list[1].counts || list[1].positions == (Range{8, 2}));
    }
}

TEST(StepPlan, CanonicalShardsDoNotDependOnTheRanks) {
  std::array<Range, 8> alone;
  for (const auto& mb : lab::micro_batches({true, 8}, 1000, 100, 9, 0, 1))
    alone.at(static_cast<size_t>(mb.leaf)) = mb.positions;
  for (const int ranks : {2, 3, 5, 8})
    for (int rank = 0; rank < ranks; ++rank)
      for (const auto& mb : lab::micro_batches({true, 8}, 1000, 100, 9, rank, ranks))
        EXPECT_EQ(mb.positions, alone.at(static_cast<size_t>(mb.leaf)));
}

// A leaf's batches in order, and a node as its tree: "((0.0+0.1)+(1.0+1.1))".
std::string leaf_text(int64_t leaf, int64_t batches) {
  std::string sum = lab::text(leaf, ".0");
  for (int64_t batch = 1; batch < batches; ++batch) sum = lab::text("(", sum, "+", leaf, ".", batch, ")");
  return sum;
}
std::string tree(int level, int64_t index, int64_t batches) {
  if (level == 0) return leaf_text(index, batches);
  return "(" + tree(level - 1, 2 * index, batches) + "+" + tree(level - 1, 2 * index + 1, batches) + ")";
}

// Replays a rank's placements with strings, as the reducer does with tensors.
std::vector<std::string> replayed(const std::vector<MicroBatch>& list, size_t most) {
  std::vector<std::string> stack;
  for (const auto& mb : list) {
    EXPECT_EQ(static_cast<size_t>(mb.placement.depth), stack.size());
    std::string node = lab::text(mb.leaf, ".", mb.batch);
    for (int m = 0; m < mb.placement.merges; ++m) {
      node = "(" + stack.back() + "+" + node + ")";
      stack.pop_back();
    }
    stack.push_back(node);
    EXPECT_LE(stack.size(), most);
  }
  return stack;
}

TEST(StepPlan, PlacementsBuildTheNodesOfTheTree) {
  for (const int64_t leaves : {1, 2, 8, 16})
    for (const int64_t accumulate : {1, 2, 5})
      for (const int64_t batches : {accumulate, int64_t{1}})  // a whole step, and a rest
        for (int ranks = 1; ranks <= leaves; ++ranks)
          for (int rank = 0; rank < ranks; ++rank) {
            const Numerics numerics{true, leaves, 1, accumulate};
            const int most = lab::most_partial_sums(numerics, rank, ranks);
            const auto stack = replayed(lab::micro_batches(numerics, 64 * batches, 64, 0, rank, ranks),
                                        static_cast<size_t>(most));
            std::vector<std::string> expected;
            const Range held = lab::leaves_of(numerics, rank, ranks);
            for (const auto& node : lab::tree_cover(held.first, held.count))
              expected.push_back(tree(node.level, node.index, batches));
            EXPECT_EQ(stack, expected) << leaves << " leaves, rank " << rank << " of " << ranks;
            EXPECT_EQ(lab::partial_sums(numerics, rank, ranks), static_cast<int>(stack.size()));
          }
}

TEST(StepPlan, ChunksCoverTheSetOnce) {
  for (const int64_t samples : {0, 1, 63, 64, 65, 1003})
    for (const int ranks : {1, 2, 3, 4, 8}) {
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range own = lab::chunks_of(samples, rank, ranks);
        for (int64_t c = own.first; c < own.end(); ++c) {
          EXPECT_EQ(lab::chunk(samples, c).first, next);
          next = lab::chunk(samples, c).end();
        }
      }
      EXPECT_EQ(next, samples);
    }
}

}  // namespace
