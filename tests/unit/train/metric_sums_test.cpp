// Sums of columns of any width: what they add up to, and what checkpoints hold of them.

#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <cmath>

#include "lab/core/error.h"
#include "lab/train/ordered_sums.h"

namespace lab {
namespace {

at::Tensor one(double value) { return torch::full({}, value, torch::kFloat64); }
at::Tensor several(const std::vector<double>& values) { return torch::tensor(values, torch::kFloat64); }

// A mean, three numbers, nothing, three counts.
const std::vector<SumColumn> mixed = {{2}, {3}, {0}, {3, true}};

void fill(OrderedSums& sums, int64_t row, double value) {
  sums.add(row, 0, {one(value), one(1)});
  sums.add(row, 1, std::array{one(value), several({2 * value, 3 * value})});
  sums.add(row, 3, std::array{several({value, 10 * value, 100 * value})});
}

using Totals = std::vector<std::vector<double>>;

TEST(OrderedSums, AddNumbersOfEachColumn) {
  const auto alone = self_communicator();
  OrderedSums sums(4, mixed);
  fill(sums, 0, 1);
  fill(sums, 3, 2);
  fill(sums, 3, 4);
  EXPECT_EQ(sums.totals(*alone), (Totals{{7, 3}, {7, 14, 21}, {}, {7, 70, 700}}));
  EXPECT_FALSE(sums.has(2));
  EXPECT_TRUE(sums.has(3));
  sums.clear();
  EXPECT_EQ(sums.totals(*alone), (Totals{{0, 0}, {0, 0, 0}, {}, {0, 0, 0}}));
}

TEST(OrderedSums, AddRowsInTheirOrder) {
  const auto alone = self_communicator();
  OrderedSums sums(4, {{2}});
  const std::vector<double> values = {1e16, 1, -1e16, 1};
  for (int64_t row = 3; row >= 0; --row) sums.add(row, 0, {one(values[static_cast<size_t>(row)]), one(1)});
  EXPECT_EQ(sums.totals(*alone), (Totals{{1, 4}}));  // from the last on it would be 0
}

TEST(OrderedSums, OfMeansAloneAreInCheckpointsAsEver) {
  const auto alone = self_communicator();
  OrderedSums sums(2, {{2}, {2}});
  sums.add(0, 0, {one(1), one(2)});
  sums.add(1, 1, {one(3), one(4)});
  const at::Tensor expected = several({1, 2, 0, 0, 0, 0, 3, 4}).view({2, 2, 2});
  EXPECT_TRUE(sums.gathered(*alone).equal(expected));
}

TEST(OrderedSums, GoOnFromACheckpoint) {
  const auto alone = self_communicator();
  OrderedSums sums(2, mixed);
  fill(sums, 0, 1);
  fill(sums, 1, 2);
  const at::Tensor saved = sums.gathered(*alone);
  EXPECT_EQ(saved.sizes(), (std::vector<int64_t>{2, 5, 2}));
  for (const int64_t rows : {2, 5}) {
    OrderedSums again(rows, mixed);
    fill(again, rows - 1, 1000);  // which is forgotten
    again.restore(saved, {0, rows});
    fill(again, 1, 4);
    EXPECT_EQ(again.totals(*alone), (Totals{{7, 3}, {7, 14, 21}, {}, {7, 70, 700}})) << rows;
  }
  OrderedSums others(2, {{2}, {3}});
  EXPECT_THROW(others.restore(saved, {0, 2}), DataError);
}

// Each with its own row, and the first with the counts.
TEST(OrderedSums, OfACheckpointEachRankTakesItsPart) {
  const auto alone = self_communicator();
  OrderedSums sums(2, mixed), first(2, mixed), second(2, mixed);
  fill(sums, 0, 1);
  fill(sums, 1, 2);
  const at::Tensor saved = sums.gathered(*alone);
  first.restore(saved, {0, 1});
  second.restore(saved, {1, 1});
  EXPECT_TRUE((first.gathered(*alone) + second.gathered(*alone)).equal(saved));
}

TEST(OrderedSums, MeanWithoutWeightIsNotANumber) {
  EXPECT_EQ(mean_of(std::array{3., 2.}), 1.5);
  EXPECT_TRUE(std::isnan(mean_of(std::array{0., 0.})));
}

}  // namespace
}  // namespace lab
