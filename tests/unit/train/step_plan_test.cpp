#include "lab/train/step_plan.h"

#include <gtest/gtest.h>

#include <array>

#include "lab/comm/tree.h"

namespace {

using lab::MicroBatch;
using lab::Numerics;
using lab::Range;

TEST(StepPlan, EveryPositionOnceWhateverTheRanks) {
  for (const bool canonical : {false, true})
    for (const int ranks : {1, 2, 3, 4, 8})
      for (const int64_t samples : {1, 3, 17, 100, 128, 1000})
        for (const int64_t batch : {1, 7, 16, 128}) {
          std::vector<int> seen(static_cast<size_t>(samples), 0);
          for (int64_t step = 0; step < lab::steps_per_epoch(samples, batch); ++step)
            for (int rank = 0; rank < ranks; ++rank)
              for (const auto& mb : lab::micro_batches({canonical, 8}, samples, batch, step, rank, ranks))
                for (int64_t p = mb.positions.first; p < mb.positions.end(); ++p) {
                  ASSERT_EQ(p / batch, step);
                  ++seen[static_cast<size_t>(p)];
                }
          for (const int times : seen) ASSERT_EQ(times, 1);
        }
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

TEST(StepPlan, CanonicalShardsDoNotDependOnTheRanks) {
  std::array<Range, 8> alone;
  for (const auto& mb : lab::micro_batches({true, 8}, 1000, 100, 9, 0, 1))
    alone.at(static_cast<size_t>(mb.leaf)) = mb.positions;
  for (const int ranks : {2, 3, 5, 8})
    for (int rank = 0; rank < ranks; ++rank)
      for (const auto& mb : lab::micro_batches({true, 8}, 1000, 100, 9, rank, ranks))
        EXPECT_EQ(mb.positions, alone.at(static_cast<size_t>(mb.leaf)));
}

// Replays the placements with leaf numbers as strings: what is left must be the cover's nodes, each as its
// tree.
std::string tree(int level, int64_t index) {
  if (level == 0) return std::to_string(index);
  return "(" + tree(level - 1, 2 * index) + "+" + tree(level - 1, 2 * index + 1) + ")";
}

TEST(StepPlan, PlacementsBuildTheNodesOfTheTree) {
  for (const int64_t leaves : {1, 2, 8, 16})
    for (int ranks = 1; ranks <= leaves; ++ranks)
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<std::string> stack;
        for (const auto& mb : lab::micro_batches({true, leaves}, 64, 64, 0, rank, ranks)) {
          ASSERT_EQ(static_cast<size_t>(mb.placement.depth), stack.size());
          std::string node = std::to_string(mb.leaf);
          for (int m = 0; m < mb.placement.merges; ++m) {
            node = "(" + stack.back() + "+" + node + ")";
            stack.pop_back();
          }
          stack.push_back(node);
        }
        std::vector<std::string> expected;
        const Range held = lab::leaves_of({true, leaves}, rank, ranks);
        for (const auto& node : lab::tree_cover(held.first, held.count))
          expected.push_back(tree(node.level, node.index));
        EXPECT_EQ(stack, expected) << leaves << " leaves, rank " << rank << " of " << ranks;
        EXPECT_EQ(lab::partial_sums({true, leaves}, rank, ranks), static_cast<int>(stack.size()));
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
