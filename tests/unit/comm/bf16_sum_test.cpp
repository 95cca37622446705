#include "comm/bf16_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "conformance_values.h"
#include "lab/core/error.h"
#include "thread_ranks.h"

namespace lab::test {
namespace {

TEST(Bf16, RoundsToTheNearestAndOfTwoToTheEven) {
  struct Case {
    uint32_t number;
    uint16_t word;
  };
  const std::vector<Case> cases = {
      {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x3F800000, 0x3F80},  // 0, -0, 1
      {0x3F807FFF, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81},  // below, at and above a half
      {0x3F818000, 0x3F82}, {0xBF818000, 0xBF82}, {0x3FFFFFFF, 0x4000},  // half of an odd one; a carry
      {0x7F7F7FFF, 0x7F7F}, {0x7F7F8000, 0x7F80}, {0xFF7FFFFF, 0xFF80},  // the largest; too large
      {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80},                        // infinities
      {0x00000001, 0x0000}, {0x00018000, 0x0002}, {0x007FFFFF, 0x0080},  // subnormal
  };
  for (const auto& [number, word] : cases) {
    const auto value = std::bit_cast<float>(number);
    uint16_t found = 0;
    to_bf16(&value, 1, &found);
    EXPECT_EQ(found, word) << std::hex << number;
    EXPECT_EQ(std::bit_cast<uint32_t>(rounded_to_bf16(value)), uint32_t{word} << 16) << std::hex << number;
  }
}

TEST(Bf16, KeepsNaNAndItsSign) {
  for (const uint32_t number : {0x7F800001u, 0x7FC00000u, 0x7FFFFFFFu, 0xFF80FFFFu, 0xFFFFFFFFu}) {
    const auto value = std::bit_cast<float>(number);
    uint16_t word = 0;
    float back = 0;
    to_bf16(&value, 1, &word);
    from_bf16(&word, 1, &back);
    EXPECT_TRUE(std::isnan(back)) << std::hex << number;
    EXPECT_EQ(std::signbit(back), std::signbit(value)) << std::hex << number;
  }
}

TEST(Bf16, EveryWordComesBackAsItself) {
  for (uint32_t word = 0; word < 0x10000; ++word) {
    const auto in = static_cast<uint16_t>(word);
    float number = 0;
    uint16_t out = 0;
    from_bf16(&in, 1, &number);
    to_bf16(&number, 1, &out);
    if (!std::isnan(number)) {
      ASSERT_EQ(out, in);
    }
  }
}

TEST(Bf16, IsForF32Alone) {
  on_threads(2, [](ThreadCommunicator& comm) {
    double number = 1;
    EXPECT_THROW(Bf16Sum().all_reduce(comm, {&number, 1, DType::f64}), Bug);
  });
}

}  // namespace
}  // namespace lab::test
