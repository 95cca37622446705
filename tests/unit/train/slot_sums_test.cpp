#include "train/slot_sums.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstring>

namespace {

constexpr int most_entries = 4;

std::vector<at::Tensor> places(at::ScalarType type) {
  std::vector<at::Tensor> out;
  for (int i = 0; i < most_entries; ++i) out.push_back(torch::full({70, 41}, 1e3, type));
  return out;
}

// One addition after the other.
void add_plainly(std::vector<at::Tensor>& stack, const lab::Placement& where, const at::Tensor& gradient) {
  at::Tensor sum = gradient.defined() ? gradient.clone() : torch::zeros_like(stack[0]);
  const int lowest = where.depth - where.merges;
  for (int k = where.depth; k-- > lowest;) sum = stack[static_cast<size_t>(k)] + sum;
  stack[static_cast<size_t>(lowest)].copy_(sum);
}

// As leaves number `first` and on of a tree of pairs are placed: a leaf merges as often as its number ends in
// ones, but not with what other ranks have; or onto one entry.
std::vector<lab::Placement> of_tree(int first, int count) {
  std::vector<lab::Placement> out;
  int depth = 0;
  for (int leaf = first; leaf < first + count; ++leaf) {
    int merges = 0;
    for (int bits = leaf; bits & 1 && (leaf + 1 - (2 << merges)) >= first; bits >>= 1) ++merges;
    out.push_back({depth, merges});
    depth += 1 - merges;
  }
  return out;
}

std::vector<lab::Placement> onto_one(int count) {
  std::vector<lab::Placement> out(static_cast<size_t>(count), {1, 1});
  out.front() = {0, 0};
  return out;
}

// What add() left is made in two pieces, of which the second may stay where backward made it.
void make_rest(lab::SlotSums& sums, lab::Range later, const at::Tensor& plain, int entries) {
  const lab::Range head{later.first, later.count / 3}, tail{head.end(), later.count - head.count};
  sums.make(head);
  if (entries > 1 || tail.count == 0) return sums.make(tail);
  const at::Tensor expected = plain.flatten().narrow(0, tail.first, tail.count);
  const at::Tensor place = sums.places()[0].flatten().narrow(0, tail.first, tail.count);
  const void* found = sums.sums(tail);
  ASSERT_EQ(std::memcmp(found, expected.const_data_ptr(), expected.nbytes()), 0);
  if (found != place.const_data_ptr()) sums.make(tail);
}

void check(const std::vector<lab::Placement>& steps, at::ScalarType type, bool keeps, int without,
           lab::Range later = {}) {
  auto plain = places(type);
  lab::SlotSums sums(places(type), keeps);
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (size_t i = 0; i < steps.size(); ++i) {
      const at::Tensor gradient =
          repeat != 1 && static_cast<int>(i) == without ? at::Tensor() : torch::randn({70, 41}, type);
      add_plainly(plain, steps[i], gradient);
      sums.add(steps[i], gradient, i + 1 == steps.size(), later);
    }
    const int entries = steps.back().depth + 1 - steps.back().merges;
    make_rest(sums, later, plain[0], entries);
    for (size_t k = 0; k < static_cast<size_t>(entries); ++k)
      ASSERT_TRUE(torch::equal(sums.places()[k], plain[k]))
          << steps.size() << " gradients, entry " << k << ", keeps " << keeps << ", without " << without
          << ", later " << later.first << " + " << later.count;
  }
}

TEST(SlotSums, HaveTheBitsOfOneAdditionAfterTheOther) {
  torch::manual_seed(4);
  for (const auto type : {torch::kFloat32, torch::kFloat64})
    for (const bool keeps : {false, true})
      for (int count = 1; count <= 8; ++count)
        for (const int without : {-1, 0, 1, 2, 3, count - 1})
          for (const lab::Range later : {lab::Range{}, lab::Range{0, 2870}, lab::Range{100, 2700}}) {
            check(onto_one(count), type, keeps, without, later);
            for (int first = 0; first < 8; ++first) check(of_tree(first, count), type, keeps, without, later);
          }
}

TEST(SlotSums, LeaveASumToItsPieces) {
  for (const bool keeps : {false, true}) {
    lab::SlotSums sums(places(torch::kFloat32), keeps);
    const at::Tensor first = torch::ones({70, 41}), second = torch::full({70, 41}, 2.0);
    sums.add({0, 0}, first, true, {1000, 100});
    const at::Tensor made = sums.places()[0].flatten();
    EXPECT_EQ(made[999].item<float>(), 1);
    EXPECT_EQ(made[1000].item<float>(), 1e3);  // left, and used where backward made it
    EXPECT_EQ(sums.sums({1000, 100}), first.const_data_ptr<float>() + 1000);
    sums.make({1000, 50});
    EXPECT_EQ(made[1049].item<float>(), 1);
    EXPECT_EQ(made[1050].item<float>(), 1e3);

    sums.add({0, 0}, first, false);
    sums.add({1, 1}, second, true, {1000, 100});
    EXPECT_EQ(made[1100].item<float>(), 3);
    EXPECT_EQ(made[1050].item<float>(), keeps ? 1e3 : 3);
    EXPECT_EQ(sums.sums({1050, 50}), made.const_data_ptr<float>() + 1050);
    EXPECT_EQ(made[1050].item<float>(), 3);
    sums.forget();
    EXPECT_EQ(first.use_count() + second.use_count(), 2);
  }
}

TEST(SlotSums, ForgetAStepThatWasNotEnded) {
  lab::SlotSums sums(places(torch::kFloat32), true);
  const at::Tensor lost = torch::full({70, 41}, 8.0), gradient = torch::ones({70, 41});
  const auto steps = of_tree(0, 8);
  for (size_t i = 0; i < 3; ++i) sums.add(steps[i], lost, false);
  for (size_t i = 0; i < 8; ++i) sums.add(steps[i], gradient, i == 7);
  EXPECT_TRUE(torch::equal(sums.places()[0], 8 * gradient));
}

}  // namespace
