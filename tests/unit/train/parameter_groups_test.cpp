// Groups of parameters: who is in which, and what the optimizer does with them.

#include "lab/train/parameter_groups.h"

#include <gmock/gmock.h>
#include <torch/nn.h>
#include <torch/optim.h>

#include "lab/core/error.h"

namespace lab {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(NamePatterns, MatchNamesAndLayers) {
  for (const char* pattern : {"block.conv1.weight", "block", "block.*", "block.conv1", "*.weight", "*", "**",
                              "*conv?*", "b*1*t", "*conv1", "?lock"})
    EXPECT_TRUE(matches("block.conv1.weight", pattern)) << pattern;
  for (const char* pattern : {"block.conv1.weigh", "lock", "block.conv", "conv1", "conv1.weight", "weight",
                              "block.conv1.weight?", "", "*.bias", "block.*.conv1"})
    EXPECT_FALSE(matches("block.conv1.weight", pattern)) << pattern;
}

torch::nn::Sequential net() {
  torch::manual_seed(1);
  return torch::nn::Sequential(torch::nn::Linear(6, 5), torch::nn::BatchNorm1d(5), torch::nn::Linear(5, 3));
}

// Slots begin with the last parameter: 2.bias (3, with its gap 16 elements), 2.weight (15: 16), 1.bias and
// 1.weight (5: 16 each), 0.bias (16), 0.weight (30: 32).
TEST(ParameterGroups, HaveTheStretchesOfTheirSlots) {
  auto model = net();
  const FlatParameters flat(*model);
  const OptimizerGroups groups = optimizer_groups(
      AdamW{.lr = 0.1, .weight_decay = 0.3},
      {{.name = "last", .patterns = {"2.weight"}, .lr = 0.5, .beta1 = 0.8}, without_decay()}, flat);
  EXPECT_THAT(groups.names, ElementsAre("rest", "last", "no_decay"));
  EXPECT_THAT(groups.stretches, ElementsAre(Stretch{16, 2}, Stretch{16, 1}, Stretch{48, 2}, Stretch{32, 0}));
  EXPECT_EQ(base_rate(groups.plans[0]), 0.1);
  EXPECT_EQ(base_rate(groups.plans[1]), 0.5);
  EXPECT_EQ(std::get<AdamW>(groups.plans[1]).beta1, 0.8);
  EXPECT_EQ(std::get<AdamW>(groups.plans[1]).weight_decay, 0.3);
  EXPECT_EQ(std::get<AdamW>(groups.plans[2]).weight_decay, 0);
  EXPECT_EQ(base_rate(groups.plans[2]), 0.1);
  EXPECT_THAT(within(groups.stretches, {20, 60}), ElementsAre(Stretch{12, 1}, Stretch{48, 2}));
  EXPECT_THAT(within(groups.stretches, {0, 1}), ElementsAre(Stretch{1, 2}));
  EXPECT_THAT(within(groups.stretches, {112, 0}), ElementsAre());
}

TEST(ParameterGroups, ThatMakeNoSenseAreRefusedByName) {
  const auto refused = [](const OptimizerPlan& plan, std::vector<ParameterGroup> groups, const char* words) {
    try {
      check_groups(plan, groups, *net());
      ADD_FAILURE() << words;
    } catch (const ConfigError& e) {
      EXPECT_THAT(e.what(), HasSubstr(words));
    }
  };
  refused(AdamW{}, {{.name = "a", .patterns = {"*.biass"}}}, R"(did you mean "bias"?)");
  refused(AdamW{}, {{.name = "a", .patterns = {"0.weihgt"}}}, R"(did you mean "0.weight"?)");
  refused(AdamW{}, {{.name = "a", .patterns = {"encoder.*"}}}, "there are 0.weight, 0.bias, 1.weight");
  refused(AdamW{}, {{.name = "a"}}, "says of no parameter");
  refused(AdamW{}, {without_decay(), without_decay()}, "a name of its own");
  refused(AdamW{}, {{.name = "rest", .patterns = {"*"}}}, "a name of its own");
  refused(SGD{}, {{.name = "a", .patterns = {"*"}, .beta1 = 0.5}}, "which SGD does not have");
  check_groups(SGD{}, {without_decay({"2.*"})}, *net());
}

// Tensors of 160 and 96 elements: the first and the last 80 of the flat tensor, and what is between.
template <class TorchOptimizer, class Options>
void step_as_torch(const OptimizerPlan& first, const OptimizerPlan& second, const Options& first_options,
                   const Options& second_options) {
  torch::manual_seed(0);
  at::Tensor ours = torch::randn({256}, torch::kFloat64);
  const std::vector<int64_t> cut = {80, 96, 80};
  std::vector<at::Tensor> theirs;
  for (const at::Tensor& piece : ours.split_with_sizes(cut))
    theirs.push_back(piece.clone().requires_grad_(true));
  std::vector<torch::optim::OptimizerParamGroup> torch_groups;
  torch_groups.emplace_back(std::vector{theirs[0], theirs[2]}, std::make_unique<Options>(first_options));
  torch_groups.emplace_back(std::vector{theirs[1]}, std::make_unique<Options>(second_options));
  TorchOptimizer reference(torch_groups, first_options);
  const auto optimizer = make_optimizer({first, second}, {{80, 0}, {96, 1}, {80, 0}}, ours);
  for (int i = 0; i < 5; ++i) {
    at::Tensor gradient = torch::randn({256}, torch::kFloat64);
    const auto pieces = gradient.split_with_sizes(cut);
    for (size_t j = 0; j < theirs.size(); ++j) theirs[j].mutable_grad() = pieces[j].clone();
    reference.step();
    optimizer->step(ours, gradient, {}, {}, {base_rate(first), base_rate(second)});
  }
  EXPECT_LT((ours - torch::cat(theirs).detach()).abs().max().item<double>(), 1e-12);
}

TEST(ParameterGroups, AreUpdatedAsTorchUpdatesThem) {
  using torch::optim::AdamWOptions, torch::optim::SGDOptions;
  step_as_torch<torch::optim::AdamW>(AdamW{.lr = 0.01, .weight_decay = 0.1},
                                     AdamW{.lr = 0.03, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0},
                                     AdamWOptions(0.01).weight_decay(0.1),
                                     AdamWOptions(0.03).weight_decay(0).betas({0.8, 0.95}));
  step_as_torch<torch::optim::SGD>(
      SGD{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01}, SGD{.lr = 0.2, .momentum = 0.9},
      SGDOptions(0.1).momentum(0.9).weight_decay(0.01), SGDOptions(0.2).momentum(0.9));
  step_as_torch<torch::optim::SGD>(SGD{.lr = 0.1, .weight_decay = 0.01}, SGD{.lr = 0.2},
                                   SGDOptions(0.1).weight_decay(0.01), SGDOptions(0.2));
}

TEST(ParameterGroups, OfTheSameValuesHaveTheBitsOfOne) {
  for (const OptimizerPlan& plan : {OptimizerPlan(AdamW{.lr = 0.01}), OptimizerPlan(SGD{.lr = 0.1}),
                                    OptimizerPlan(SGD{.lr = 0.1, .momentum = 0.9})}) {
    torch::manual_seed(0);
    at::Tensor whole = torch::randn({1024}), parts = whole.clone();
    const auto one = make_optimizer(plan, whole);
    const auto many = make_optimizer({plan, plan}, {{16, 1}, {48, 0}, {16, 1}, {400, 0}, {544, 1}}, parts);
    for (int i = 0; i < 5; ++i) {
      at::Tensor gradient = torch::randn({1024}), same = gradient.clone();
      const at::Tensor divisor = torch::full({}, 3.0F), skip = torch::full({}, i == 2 ? 1.0F : 0.0F);
      one->step(whole, gradient, divisor, skip, {base_rate(plan)});
      many->step(parts, same, divisor, skip, {base_rate(plan), base_rate(plan)});
      EXPECT_TRUE(whole.equal(parts)) << one->name() << ", step " << i;
    }
    EXPECT_EQ(one->steps(), many->steps());
    for (size_t i = 0; i < one->flat_state().size(); ++i)
      EXPECT_TRUE(one->flat_state()[i].second.equal(many->flat_state()[i].second))
          << one->flat_state()[i].first;
  }
}

}  // namespace
}  // namespace lab
