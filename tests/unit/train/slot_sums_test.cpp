#include "train/slot_sums.h"

#include <gtest/gtest.h>
#include <torch/types.h>

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

void check(const std::vector<lab::Placement>& steps, at::ScalarType type, bool keeps_pairs, int without) {
  auto plain = places(type);
  lab::SlotSums sums(places(type), keeps_pairs);
  for (int repeat = 0; repeat < 2; ++repeat) {
    for (size_t i = 0; i < steps.size(); ++i) {
      const at::Tensor gradient =
          static_cast<int>(i) == without ? at::Tensor() : torch::randn({70, 41}, type);
      add_plainly(plain, steps[i], gradient);
      sums.add(steps[i], gradient, i + 1 == steps.size());
    }
    const int entries = steps.back().depth + 1 - steps.back().merges;
    for (size_t k = 0; k < static_cast<size_t>(entries); ++k)
      ASSERT_TRUE(torch::equal(sums.places()[k], plain[k]))
          << steps.size() << " gradients, entry " << k << ", pairs " << keeps_pairs << ", without "
          << without;
  }
}

TEST(SlotSums, HaveTheBitsOfOneAdditionAfterTheOther) {
  torch::manual_seed(4);
  for (const auto type : {torch::kFloat32, torch::kFloat64})
    for (const bool keeps_pairs : {false, true})
      for (int count = 1; count <= 8; ++count)
        for (const int without : {-1, 0, 1, 2, 3, count - 1}) {
          check(onto_one(count), type, keeps_pairs, without);
          for (int first = 0; first < 8; ++first) check(of_tree(first, count), type, keeps_pairs, without);
        }
}

}  // namespace
