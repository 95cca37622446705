#include "lab/comm/tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "group.h"
#include "lab/core/random.h"
#include "lab/core/range.h"

namespace {

using lab::Buffer;
using lab::DType;

// Values that lose digits when added, so that another order gives other bits.
template <class T>
std::vector<T> leaf_values(int64_t leaf, int64_t n) {
  lab::Rng rng(7, lab::Purpose::user, static_cast<uint64_t>(leaf));
  std::vector<T> values(static_cast<size_t>(n));
  for (auto& value : values) value = static_cast<T>((rng.uniform() - 0.5) * std::exp2(rng.integer(-12, 12)));
  return values;
}

template <class T>
std::vector<T> tree_sum(lab::TreeNode node, int64_t n) {
  if (node.level == 0) return leaf_values<T>(node.index, n);
  auto sum = tree_sum<T>({node.level - 1, node.index * 2}, n);
  const auto right = tree_sum<T>({node.level - 1, node.index * 2 + 1}, n);
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

template <class T>
void same_bits_as_one_process(DType type, int64_t leaves) {
  auto& comm = test_group();
  lab::BufferMemory scratch;
  for (const int64_t n : {0, 1, 2, 5, 1000}) {
    const lab::Range mine = lab::shard(leaves, comm.rank(), comm.size());
    std::vector<std::vector<T>> held;
    std::vector<Buffer> partials;
    for (const auto node : lab::tree_cover(mine.first, mine.count)) held.push_back(tree_sum<T>(node, n));
    for (auto& values : held) partials.push_back({values.data(), n, type});
    lab::tree_all_reduce(comm, leaves, partials, scratch);
    int level = 0;
    while ((int64_t{1} << level) < leaves) ++level;
    const auto expected = tree_sum<T>({level, 0}, n);
    const auto bytes = std::as_bytes(std::span(held[0])), wanted = std::as_bytes(std::span(expected));
    ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), wanted.begin(), wanted.end()))
        << n << " of " << leaves;
  }
}

TEST(Tree, SumsHaveTheSameBitsOnAnyNumberOfRanks) {
  for (const int64_t leaves : {4, 8, 32}) {
    same_bits_as_one_process<float>(DType::f32, leaves);
    same_bits_as_one_process<double>(DType::f64, leaves);
  }
}

TEST(Tree, CoverIsTheFewestAlignedNodes) {
  using lab::TreeNode;
  EXPECT_EQ(lab::tree_cover(0, 8), (std::vector<TreeNode>{{3, 0}}));
  EXPECT_EQ(lab::tree_cover(0, 3), (std::vector<TreeNode>{{1, 0}, {0, 2}}));
  EXPECT_EQ(lab::tree_cover(3, 3), (std::vector<TreeNode>{{0, 3}, {1, 2}}));
  EXPECT_EQ(lab::tree_cover(6, 2), (std::vector<TreeNode>{{1, 3}}));
  EXPECT_TRUE(lab::tree_cover(5, 0).empty());
}

}  // namespace
