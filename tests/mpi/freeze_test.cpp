// Runs in which some layers stay as they are.

#include "lab/train/freeze.h"

#include <gmock/gmock.h>
#include <torch/nn.h>

#include "fitting.h"
#include "lab/comm/agreement.h"

namespace lab {
namespace {

torch::nn::Sequential net() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(number_features, 8), torch::nn::BatchNorm1d(8),
                               torch::nn::ReLU(), torch::nn::Linear(8, 5), torch::nn::BatchNorm1d(5),
                               torch::nn::Linear(5, 3));
}

TrainPlan plan(torch::nn::Sequential net, Freeze freeze) {
  return {.model = {std::move(net), "x"},
          .freeze = std::move(freeze),
          .loss = cross_entropy(),
          .optimizer = AdamW{.lr = 0.05},
          .train = {.shuffle = true},
          .batch_size = 16};
}

using FreezeRuns = Fitting;

// Which tensors a run with those patterns leaves as they were.
std::vector<std::string> unchanged(const torch::nn::Sequential& before, const torch::nn::Sequential& after) {
  std::vector<std::string> names;
  const auto old = model_tensors(*before);
  for (const auto& [name, tensor] : model_tensors(*after))
    for (const auto& [old_name, was] : old)
      if (old_name == name && tensor.equal(was)) names.push_back(name);
  return names;
}

TEST_F(FreezeRuns, WhatMatchesStaysAsItWas) {
  using testing::ElementsAre;
  auto trained = net();
  fit("layers", plan(trained, {.patterns = {"0", "1.*", "4.bias"}}));
  EXPECT_THAT(unchanged(net(), trained), ElementsAre("0.weight", "0.bias", "1.weight", "1.bias", "4.bias"));
  trained = net();
  fit("norms", plan(trained, {.patterns = {"0", "1.*", "4.bias"}, .norms_in_eval = true}));
  EXPECT_THAT(unchanged(net(), trained),
              ElementsAre("0.weight", "0.bias", "1.weight", "1.bias", "4.bias", "1.running_mean",
                          "1.running_var", "1.num_batches_tracked"));
  if (group_->rank() != 0) return;
  const SafetensorsFile file(temporary_ / "norms" + "/last.safetensors");
  EXPECT_TRUE(file.find("0.weight"));
  EXPECT_FALSE(file.find("lab.optimizer.exp_avg.0.weight"));
  EXPECT_FALSE(file.find("lab.optimizer.exp_avg.4.bias"));
  EXPECT_TRUE(file.find("lab.optimizer.exp_avg.4.weight"));
}

TEST_F(FreezeRuns, GoOnBitForBit) {
  const Freeze freeze{.patterns = {"0", "1"}, .norms_in_eval = true};
  fit("whole", plan(net(), freeze));
  for (const char* from : {"epoch=0-step=3.safetensors", "epoch=1-step=8.safetensors"}) {
    fit(from, plan(net(), freeze), from, "whole");
    EXPECT_TRUE(last(from) == last("whole")) << from;
  }
}

TEST_F(FreezeRuns, APatternThatMatchesNothingIsRefused) {
  try {
    fit("run", plan(net(), {.patterns = {"3.wieght"}}));
    ADD_FAILURE();
  } catch (const AgreedError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr(
                              R"(a pattern "3.wieght" that matches no parameter; did you mean "3.weight"?)"));
  }
  EXPECT_ANY_THROW(fit("none", plan(net(), {.patterns = {"*"}})));
}

}  // namespace
}  // namespace lab
