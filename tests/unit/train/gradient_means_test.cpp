#include "train/gradient_means.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace {

using Limits = std::numeric_limits<float>;

std::vector<float> gradients(int64_t count) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) value = normal(random);
  out.front() = Limits::denorm_min() * 5;
  out.back() = Limits::max();
  return out;
}

// In another place than the sums, or the same.
std::vector<float> means_of(std::vector<float> sums, double weight, bool in_place,
                            lab::GradientMeans& means) {
  const auto count = static_cast<int64_t>(sums.size());
  std::vector<float> apart(sums.size());
  float* to = in_place ? sums.data() : apart.data();
  means.each_chunk({0, count}, weight, [&](lab::Range chunk) {
    return lab::GradientChunk{sums.data() + chunk.first,
                              lab::Buffer{to, count, lab::DType::f32}.slice(chunk.first, chunk.count)};
  });
  return in_place ? sums : apart;
}

TEST(GradientMeans, AreSumsDividedByTheWeightToTheBit) {
  const auto sums = gradients(2 * lab::part_unit + 21);
  for (const double weight : {1.0, 2.0, 32.0, 0.25, 3.0, 1e-20, std::ldexp(1, 120), std::ldexp(1, -120),
                              std::ldexp(1, 127), std::ldexp(1, -127), std::ldexp(1, -140)})
    for (const bool in_place : {false, true}) {
      lab::GradientMeans means(std::ssize(sums), true);
      const auto made = means_of(sums, weight, in_place, means);
      double squares = 0;
      bool finite = true;
      for (size_t i = 0; i < sums.size(); ++i) {
        const float wanted = sums[i] / static_cast<float>(weight);
        ASSERT_EQ(std::bit_cast<uint32_t>(made[i]), std::bit_cast<uint32_t>(wanted)) << weight << " at " << i;
        squares += static_cast<double>(wanted) * wanted;
        finite = finite && std::isfinite(wanted);
      }
      EXPECT_EQ(means.finite(), finite) << weight;
      if (finite) {
        EXPECT_NEAR(means.norm() / std::sqrt(squares), 1, 1e-14) << weight;
      }
    }
}

TEST(GradientMeans, OneThatIsNotFiniteIsSeenWhereverItIs) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF})
    for (const double weight : {32.0, 3.0})
      for (const size_t at : {size_t{0}, size_t{17}, static_cast<size_t>(lab::part_unit) + 2}) {
        std::vector<float> sums(static_cast<size_t>(lab::part_unit) + 3, 1.0F);
        sums[at] = bad;
        lab::GradientMeans means(std::ssize(sums), false);
        means_of(sums, weight, true, means);
        EXPECT_FALSE(means.finite()) << bad << " at " << at;
      }
}

}  // namespace
