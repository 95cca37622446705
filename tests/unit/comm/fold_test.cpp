#include "comm/fold.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "lab/core/error.h"

namespace lab {
namespace {

// Rough numbers: a sum in another order has other bits.
template <class T>
T value(size_t rank, size_t i) {
  return static_cast<T>(static_cast<double>((i * 7919 + rank * 104729) % 1009) /
                        (1.0 + static_cast<double>(rank * 97)));
}

template <class T>
T one_by_one(ReduceOp op, size_t ranks, size_t i) {
  T out = value<T>(0, i);
  for (size_t r = 1; r < ranks; ++r) {
    const T next = value<T>(r, i);
    out = op == ReduceOp::sum   ? static_cast<T>(out + next)
          : op == ReduceOp::min ? std::min(out, next)
                                : std::max(out, next);
  }
  return out;
}

template <class T>
void folds_in_order(DType type) {
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max})
    for (const size_t ranks : {1, 2, 3, 5})
      for (const size_t n : {0, 1, 7, 1024, 5001}) {
        std::vector<std::vector<T>> held(ranks, std::vector<T>(n + 1));
        std::vector<Buffer> buffers;
        for (size_t r = 0; r < ranks; ++r) {
          for (size_t i = 0; i < n; ++i) held[r][i] = value<T>(r, i);
          held[r][n] = 77;
          buffers.push_back({held[r].data(), static_cast<int64_t>(n), type});
        }
        fold(op, buffers, buffers);  // into what is read
        for (const auto& values : held) {
          EXPECT_EQ(values[n], 77) << "wrote behind the end";
          for (size_t i = 0; i < n; ++i)
            ASSERT_EQ(values[i], one_by_one<T>(op, ranks, i)) << ranks << ' ' << i;
        }
      }
}

TEST(Fold, GoesThroughTheRanksInOrderAndWritesToAll) {
  folds_in_order<uint8_t>(DType::u8);
  folds_in_order<int64_t>(DType::i64);
  folds_in_order<float>(DType::f32);
  folds_in_order<double>(DType::f64);
}

TEST(Fold, LeavesWhatItOnlyReads) {
  std::vector<float> a(2000, 1), b(2000, 2), sum(2000, 9);
  const std::vector<Buffer> in = {{a.data(), 2000, DType::f32}, {b.data(), 2000, DType::f32}};
  const Buffer out{sum.data(), 2000, DType::f32};
  fold(ReduceOp::sum, in, {&out, 1});
  EXPECT_EQ(a, std::vector<float>(2000, 1));
  EXPECT_EQ(b, std::vector<float>(2000, 2));
  EXPECT_EQ(sum, std::vector<float>(2000, 3));
}

TEST(Fold, RefusesTypesThatItDoesNotKnow) {
  uint16_t number = 1;
  const Buffer half{&number, 1, DType::bf16};
  EXPECT_THROW(fold(ReduceOp::sum, {&half, 1}, {&half, 1}), Bug);
  EXPECT_THROW(add(half, half, half), Bug);
}

}  // namespace
}  // namespace lab
