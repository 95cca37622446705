#pragma once
// What every backend must do with sums that travel as bf16: to the bit what is worked out here, number by
// number.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "conformance.h"

namespace lab::test {

// The ranks of each node.
inline std::vector<std::vector<int>> nodes_of(const Ranks& ranks) {
  std::vector<std::vector<int>> nodes;
  for (int r = 0; r < ranks.comm.size(); ++r) {
    const auto same = [&](const auto& node) { return ranks.node_of(node.front()) == ranks.node_of(r); };
    const auto found = std::ranges::find_if(nodes, same);
    if (found == nodes.end())
      nodes.push_back({r});
    else
      found->push_back(r);
  }
  return nodes;
}

// What all ranks end with, when rank r has of_rank(r).
template <class OfRank>
float sum_by_bf16(const std::vector<std::vector<int>>& nodes, const OfRank& of_rank) {
  const auto of_node = [&](const std::vector<int>& node) {
    return over_ranks<float>(ReduceOp::sum, static_cast<int>(node.size()),
                             [&](int i) { return of_rank(node[static_cast<size_t>(i)]); });
  };
  if (nodes.size() == 1) return of_node(nodes[0]);
  return rounded_to_bf16(over_ranks<float>(ReduceOp::sum, static_cast<int>(nodes.size()), [&](int k) {
    return rounded_to_bf16(of_node(nodes[static_cast<size_t>(k)]));
  }));
}

TEST_P(Conformance, SumsByBf16HaveTheSameBitsOnEveryRankAndAreNear) {
  GetParam().run([](Ranks& ranks) {
    auto& comm = ranks.comm;
    const auto nodes = nodes_of(ranks);
    for (const Where where : {Where::inside, Where::inside_further, Where::outside})
      for (const int64_t n : counts<float>()) {
        Values<float> values(comm, n, where);
        for (int64_t i = 0; i < n; ++i) values[i] = rough<float>(comm.rank(), i);
        comm.all_reduce_bf16(values.buffer());
        values.expect(
            [&](int64_t i) { return sum_by_bf16(nodes, [i](int r) { return rough<float>(r, i); }); },
            text("by bf16, ", n, " where ", static_cast<int>(where)));
        for (int64_t i = 0; i < n; ++i) {
          double sum = 0, magnitudes = 0;
          for (int r = 0; r < comm.size(); ++r) {
            sum += static_cast<double>(rough<float>(r, i));
            magnitudes += std::abs(static_cast<double>(rough<float>(r, i)));
          }
          const double bound = static_cast<double>(nodes.size() + 1) / 256 * magnitudes;
          ASSERT_LE(std::abs(static_cast<double>(values[i]) - sum), bound) << "element " << i << " of " << n;
        }
        require_equal(comm, {"sum", text(hash_of(values.buffer()))});
      }
  });
}

TEST_P(Conformance, WhatIsNotFiniteStaysSoByBf16) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const float faint_nan = std::bit_cast<float>(0x7F800001u);  // all its digits are among those cut off
  GetParam().run([=](Ranks& ranks) {
    auto& comm = ranks.comm;
    const auto nodes = nodes_of(ranks);
    const int last = comm.size() - 1;
    const auto value = [=](int rank, int64_t i) {
      const float others = static_cast<float>(i % 5) - 2;
      const bool first = rank == 0, end = rank == last;
      switch (i % 8) {
        case 0:
          return end ? nan : others;
        case 1:
          return end ? inf : others;
        case 2:
          return first ? -inf : others;
        case 3:
          return first ? -inf : end ? inf : others;
        case 4:
          return first ? faint_nan : others;
        case 5:
          return first ? std::numeric_limits<float>::max() : 0.0F;
        case 6:
          return first ? std::numeric_limits<float>::denorm_min() * 123456.0F : 0.0F;
        default:
          return -0.0F;
      }
    };
    for (const int64_t n : {8, 999, 70'000}) {
      Values<float> values(comm, n, Where::inside);
      for (int64_t i = 0; i < n; ++i) values[i] = value(comm.rank(), i);
      comm.all_reduce_bf16(values.buffer());
      for (int64_t i = 0; i < n; ++i) {
        const float wanted = sum_by_bf16(nodes, [&](int r) { return value(r, i); });
        if (std::isnan(wanted)) {
          ASSERT_TRUE(std::isnan(values[i])) << i << " is " << values[i];
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(wanted)) << i;
        }
      }
      require_equal(comm, {"sum", text(hash_of(values.buffer()))});
    }
  });
}

}  // namespace lab::test
