#include "lab/data/order.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "lab/core/error.h"

namespace lab {
namespace {

std::vector<int64_t> order(uint64_t seed, uint64_t epoch, int64_t n) {
  std::vector<int64_t> out;
  for (int64_t position = 0; position < n; ++position) out.push_back(shuffled(seed, epoch, n, position));
  return out;
}

double correlation(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]) - mean_a, y = static_cast<double>(b[i]) - mean_b;
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

double chi_square(const std::vector<int64_t>& counts, double expected) {
  double sum = 0;
  for (const int64_t count : counts) sum += std::pow(static_cast<double>(count) - expected, 2) / expected;
  return sum;
}

// The largest value of a chi-square distribution that is still believable: five standard deviations.
double limit(double degrees) { return degrees + 5 * std::sqrt(2 * degrees); }

TEST(Shuffled, MeetsEachSampleOnce) {
  for (const int64_t n : {1,  2,  3,  4,   5,   7,   8,   9,    15,   16,   17,
                          63, 64, 65, 100, 255, 256, 257, 1000, 5500, 6000, (1 << 20) + 1}) {
    std::vector<bool> met(static_cast<size_t>(n), false);
    for (int64_t position = 0; position < n; ++position) {
      const int64_t sample = shuffled(3, 1, n, position);
      ASSERT_GE(sample, 0) << n;
      ASSERT_LT(sample, n);
      ASSERT_FALSE(met[static_cast<size_t>(sample)]) << "sample " << sample << " of " << n << " came twice";
      met[static_cast<size_t>(sample)] = true;
    }
  }
}

TEST(Shuffled, RefusesPositionsThatAreNotThere) {
  EXPECT_THROW(shuffled(0, 0, 0, 0), Bug);
  EXPECT_THROW(shuffled(0, 0, 5, 5), Bug);
  EXPECT_THROW(shuffled(0, 0, 5, -1), Bug);
}

TEST(Shuffled, ReachesSamplesOfHugeSets) {
  const int64_t n = (int64_t{1} << 62) - 3;
  const int64_t sample = shuffled(1, 2, n, n - 1);
  EXPECT_GE(sample, 0);
  EXPECT_LT(sample, n);
}

// Runs are repeated and resumed by these numbers: they must never change.
TEST(Shuffled, IsTheOrderItAlwaysWas) {
  EXPECT_EQ(order(0, 0, 10), (std::vector<int64_t>{8, 0, 2, 5, 6, 9, 1, 4, 3, 7}));
  EXPECT_EQ(order(1, 0, 10), (std::vector<int64_t>{1, 9, 5, 8, 6, 4, 2, 7, 3, 0}));
  EXPECT_EQ(order(0, 1, 10), (std::vector<int64_t>{4, 0, 6, 8, 3, 2, 7, 9, 5, 1}));
  EXPECT_EQ(shuffled(42, 7, 6000, 0), 5110);
  EXPECT_EQ(shuffled(42, 7, 6000, 5999), 3725);
  EXPECT_EQ(shuffled(42, 7, 1'000'000'007, 123'456'789), 290487799);
}

TEST(Shuffled, DiffersBySeedAndEpoch) {
  const auto first = order(1, 1, 1000);
  for (const auto& other : {order(2, 1, 1000), order(1, 2, 1000), order(uint64_t{1} << 40, 1, 1000)}) {
    int64_t same = 0;
    for (size_t i = 0; i < first.size(); ++i) same += first[i] == other[i];
    EXPECT_LT(same, 8);  // one is expected of unrelated orders
    EXPECT_LT(std::abs(correlation(first, other)), 5 / std::sqrt(1000.0));
  }
}

TEST(Shuffled, EveryOrderOfAFewSamplesIsAsLikely) {
  for (const auto& [n, permutations] : {std::pair<int64_t, int64_t>{2, 2}, {3, 6}, {4, 24}, {5, 120}}) {
    std::map<std::vector<int64_t>, int64_t> seen;
    constexpr int64_t each = 100;
    for (int64_t epoch = 0; epoch < permutations * each; ++epoch)
      ++seen[order(9, static_cast<uint64_t>(epoch), n)];
    EXPECT_EQ(static_cast<int64_t>(seen.size()), permutations);
    std::vector<int64_t> counts;
    for (const auto& [permutation, count] : seen) counts.push_back(count);
    EXPECT_LT(chi_square(counts, each), limit(static_cast<double>(permutations - 1))) << n << " samples";
  }
}

TEST(Shuffled, TiesNoPartOfTheEpochToAPartOfTheFile) {
  constexpr int64_t n = 6000, bins = 20;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    std::vector<int64_t> counts(bins * bins);
    for (int64_t p = 0; p < n; ++p)
      ++counts[static_cast<size_t>(p * bins / n * bins + shuffled(seed, 0, n, p) * bins / n)];
    EXPECT_LT(chi_square(counts, double{n} / (bins * bins)), limit((bins - 1) * (bins - 1)));
  }
}

TEST(Shuffled, NeighboursDoNotFollowEachOther) {
  for (const int64_t n : {1000, 4096, 6000, 65536}) {
    const auto samples = order(5, 3, n);
    std::vector<int64_t> positions(samples.size());
    std::iota(positions.begin(), positions.end(), 0);
    const double most = 5 / std::sqrt(static_cast<double>(n));
    EXPECT_LT(std::abs(correlation(samples, positions)), most);
    for (const auto lag : {1, 2, 8, 64}) {
      const std::vector<int64_t> before(samples.begin(), samples.end() - lag),
          after(samples.begin() + lag, samples.end());
      EXPECT_LT(std::abs(correlation(before, after)), most) << "lag " << lag << " of " << n;
    }
    // The low bits, where a weak round function shows first.
    std::vector<int64_t> low_bits(16);
    for (size_t i = 0; i + 1 < samples.size(); ++i)
      ++low_bits[static_cast<size_t>(samples[i] % 4 * 4 + samples[i + 1] % 4)];
    EXPECT_LT(chi_square(low_bits, static_cast<double>(n - 1) / 16), limit(15)) << n;
  }
}

}  // namespace
}  // namespace lab
