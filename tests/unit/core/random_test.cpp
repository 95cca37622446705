#include "lab/core/random.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <thread>
#include <vector>

namespace {

TEST(Random, PhiloxGivesThePublishedNumbers) {  // known answers of the Random123 library
  const std::array<uint32_t, 4> zeros = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  EXPECT_EQ(lab::philox({0, 0, 0, 0}, {0, 0}), zeros);
  const uint32_t f = 0xffffffff;
  const std::array<uint32_t, 4> ones = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
  EXPECT_EQ(lab::philox({f, f, f, f}, {f, f}), ones);
  const std::array<uint32_t, 4> pi = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  EXPECT_EQ(lab::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}), pi);
}

TEST(Random, EveryArgumentOfAKeyMatters) {
  using lab::Purpose;
  std::set<uint64_t> keys;
  for (uint64_t i = 0; i < 3; ++i) {
    keys.insert(lab::random_key(i, Purpose::order));
    keys.insert(lab::random_key(9, Purpose::order, i + 1));
    keys.insert(lab::random_key(9, Purpose::order, 0, i + 1));
    keys.insert(lab::random_key(9, Purpose::order, 0, 0, i + 1));
  }
  keys.insert(lab::random_key(9, Purpose::dropout));
  EXPECT_EQ(keys.size(), 13u);
}

TEST(Random, AKeyDoesNotDependOnTheOnesBefore) {
  using lab::Purpose;
  const auto in_new_thread = [](auto... numbers) {
    uint64_t key = 0;
    std::thread([&] { key = lab::random_key(numbers...); }).join();
    return key;
  };
  std::vector<std::array<uint64_t, 4>> all;
  for (uint64_t i = 0; i < 16; ++i) all.push_back({i & 1, (i >> 1) & 1, (i >> 2) & 1, i >> 3});
  for (const auto& before : all)
    for (const auto& [seed, a, b, c] : all)
      for (const Purpose purpose : {Purpose::order, Purpose::user}) {
        lab::random_key(before[0], Purpose::user, before[1], before[2], before[3]);
        EXPECT_EQ(lab::random_key(seed, purpose, a, b, c), in_new_thread(seed, purpose, a, b, c));
      }
}

TEST(Random, IntegersCoverTheirRangeEvenly) {
  lab::Rng rng(1, lab::Purpose::user);
  std::array<int, 5> counts{};
  for (int i = 0; i < 50'000; ++i) ++counts.at(static_cast<size_t>(rng.integer(-2, 2) + 2));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 400);
  EXPECT_EQ(rng.integer(7, 7), 7);
  rng.integer(INT64_MIN, INT64_MAX);  // the whole range, no division by zero
}

TEST(Random, UniformStaysBelowOne) {
  lab::Rng rng(2, lab::Purpose::user);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double value = rng.uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    sum += value;
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 0.005);
}

TEST(Random, ACopyGoesOnWhereTheOriginalWas) {
  lab::Rng rng(3, lab::Purpose::user);
  rng.bits();
  lab::Rng copy = rng;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(rng.bits(), copy.bits());
}

}  // namespace
