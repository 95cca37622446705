#include "lab/train/ema.h"

#include <gtest/gtest.h>
#include <torch/types.h>

namespace lab {
namespace {

TEST(WeightAverage, HasTheDecayOfTorchOrOfTimm) {
  EXPECT_EQ(ema_decay({.decay = 0.9}, 1), 0);
  EXPECT_EQ(ema_decay({.decay = 0.9}, 2), 0.9);
  const Ema warm{.decay = 0.99, .warmup = true};
  EXPECT_EQ(ema_decay(warm, 1), 0);
  EXPECT_DOUBLE_EQ(ema_decay(warm, 8), 0.75);
  EXPECT_DOUBLE_EQ(ema_decay(warm, 64), 1 - 1.0 / 16);
  EXPECT_EQ(ema_decay(warm, 1'000'000), 0.99);
}

at::Tensor like(const at::Tensor& weights) { return torch::zeros_like(weights); }

// Of torch's own interpolation, which get_ema_multi_avg_fn calls.
TEST(WeightAverage, MovesAsTorchsDoes) {
  torch::manual_seed(0);
  for (const bool warmup : {false, true}) {
    const Ema ema{.decay = 0.9, .warmup = warmup};
    at::Tensor weights = torch::randn({100'000}, torch::kFloat64), expected;
    WeightAverage average(ema, like(weights), weights);
    EXPECT_TRUE(average.values().equal(weights));
    for (int64_t update = 1; update <= 20; ++update) {
      weights.add_(torch::randn_like(weights), 0.1);
      average.update(weights, {}, update);
      if (update == 1)
        expected = weights.clone();
      else
        expected.lerp_(weights, 1 - ema_decay(ema, update));
      EXPECT_LT((average.values() - expected).abs().max().item<double>(), 1e-14) << update;
    }
  }
}

// Parts of any length have the bits of the whole.
TEST(WeightAverage, ElementsDoNotDependOnOthers) {
  torch::manual_seed(0);
  at::Tensor weights = torch::randn({70'001});
  const at::Tensor whole = like(weights), parts = like(weights);
  WeightAverage all({.decay = 0.7}, whole, weights);
  std::vector<WeightAverage> each;
  std::vector<at::Tensor> own;
  for (int64_t first = 0, count = 1; first < weights.numel(); first += count, count = count * 3 + 1) {
    count = std::min(count, weights.numel() - first);
    own.push_back(weights.narrow(0, first, count));
    each.emplace_back(Ema{.decay = 0.7}, parts.narrow(0, first, count), own.back());
  }
  for (int64_t update = 1; update <= 4; ++update) {
    weights.add_(torch::randn_like(weights));
    all.update(weights, torch::zeros({}), update);
    for (size_t i = 0; i < each.size(); ++i) each[i].update(own[i], {}, update);
    EXPECT_TRUE(whole.equal(parts)) << update;
  }
}

TEST(WeightAverage, StaysWhenItIsToSkip) {
  torch::manual_seed(0);
  at::Tensor weights = torch::randn({1000});
  WeightAverage average({.decay = 0.5}, like(weights), weights);
  average.update(weights, torch::zeros({}), 1);
  weights.add_(1);
  const at::Tensor before = average.values().clone();
  average.update(weights, torch::ones({}), 2);
  EXPECT_TRUE(average.values().equal(before));
  average.update(weights, torch::zeros({}), 3);
  EXPECT_FALSE(average.values().equal(before));
}

TEST(WeightAverage, ExchangesPlacesWithTheWeights) {
  torch::manual_seed(0);
  at::Tensor weights = torch::randn({40'000});
  WeightAverage average({.decay = 0.5}, like(weights), weights);
  weights.add_(1);
  const at::Tensor old = weights.clone(), mean = average.values().clone();
  average.exchange(weights);
  EXPECT_TRUE(weights.equal(mean));
  EXPECT_TRUE(average.values().equal(old));
  average.exchange(weights);
  EXPECT_TRUE(weights.equal(old));
  EXPECT_TRUE(average.values().equal(mean));
}

}  // namespace
}  // namespace lab
