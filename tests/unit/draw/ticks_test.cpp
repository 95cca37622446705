#include "draw/ticks.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lab::detail {
namespace {

std::string texts_of(const std::vector<Tick>& list) {
  std::string out;
  for (const Tick& tick : list) out += (out.empty() ? "" : " ") + tick.text;
  return out;
}

TEST(Ticks, AreRoundAndNoMoreThanTheirDigitsSay) {
  EXPECT_EQ(texts_of(ticks(0, 1, 5)), "0.0 0.2 0.4 0.6 0.8 1.0");
  EXPECT_EQ(texts_of(ticks(-1, 1, 4)), "-1.0 -0.5 0.0 0.5 1.0");
  EXPECT_EQ(texts_of(ticks(0.97, 0.99, 4)), "0.970 0.975 0.980 0.985 0.990");
  EXPECT_EQ(texts_of(ticks(-17, 870, 8)), "0 200 400 600 800");
  EXPECT_EQ(texts_of(ticks(0, 250'000, 5)), "0 50k 100k 150k 200k 250k");
  EXPECT_EQ(texts_of(ticks(0, 2.5e6, 5)), "0.0 0.5M 1.0M 1.5M 2.0M 2.5M");
  EXPECT_EQ(texts_of(ticks(0, 3e-6, 3)), "0 1e-06 2e-06 3e-06");
}

TEST(Ticks, OfCountsAreWhole) {
  EXPECT_EQ(texts_of(ticks(0, 3, 8, true)), "0 1 2 3");
  EXPECT_EQ(texts_of(ticks(0.9, 1.1, 8, true)), "1");
  EXPECT_EQ(texts_of(ticks(0, 20, 8, true)), "0 5 10 15 20");
}

TEST(Ticks, OfALogarithmicAxisArePowersOfTen) {
  EXPECT_EQ(texts_of(logarithmic_ticks(0.004, 3, 6)), "0.01 0.1 1");
  EXPECT_EQ(texts_of(logarithmic_ticks(0.3, 3, 6)), "0.5 1 2");
  EXPECT_EQ(texts_of(logarithmic_ticks(1e-9, 1, 5)), "1e-08 1e-06 0.0001 0.01 1");
}

TEST(ShortNumber, FitsIntoACell) {
  for (const auto& [value, expected] : std::vector<std::pair<double, std::string>>{{0, "0"},
                                                                                   {98765, "98765"},
                                                                                   {123456, "123k"},
                                                                                   {1234567, "1.23M"},
                                                                                   {0.25, "0.25"},
                                                                                   {-3, "-3"},
                                                                                   {2.5e13, "2.5e+13"}})
    EXPECT_EQ(short_number(value), expected);
}

}  // namespace
}  // namespace lab::detail
