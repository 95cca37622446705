#include "lab/train/reducer.h"

#include <gtest/gtest.h>
#include <torch/nn.h>

#include <cmath>
#include <set>

#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/train/buckets.h"
#include "lab/train/tensor_buffer.h"
#include "recording.h"

namespace {

// Six weights and biases, of about 80 KiB each if they are 100 wide.
torch::nn::Sequential deep_net(int64_t width = 100) {
  torch::manual_seed(1);
  torch::nn::Sequential net;
  for (int i = 0; i < 6; ++i) net->push_back(torch::nn::Linear(width, width));
  net->to(torch::kFloat64);
  return net;
}

at::Tensor all_inputs(int64_t width = 100) {
  torch::manual_seed(2);
  return torch::randn({24, width}, torch::kFloat64);
}

// One step over `samples` of 24 inputs, in numerics.accumulate batches; loss: sum of squares.
lab::StepSums run_step(lab::GradientReducer& reducer, torch::nn::Sequential& net,
                       const lab::Numerics& numerics, int64_t samples) {
  auto& comm = test_group();
  const at::Tensor inputs = all_inputs((*net)[0]->as<torch::nn::Linear>()->options.in_features());
  const int64_t batch = (samples + numerics.accumulate - 1) / numerics.accumulate;
  const auto list = lab::micro_batches(numerics, samples, batch, 0, comm.rank(), comm.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const lab::Range positions = list[i].positions;
    lab::WeightedSum loss;
    if (positions.count > 0) {
      loss.sum = net->forward(inputs.narrow(0, positions.first, positions.count)).pow(2).sum();
      loss.weight = torch::full({}, static_cast<double>(positions.count), torch::kFloat64);
    }
    reducer.arm(list[i], loss, i + 1 == list.size());
    if (loss.sum.defined()) loss.sum.backward();
  }
  return reducer.finish();
}

// The mean gradient of the whole batch at once, in flat order.
at::Tensor reference(int64_t samples) {
  auto net = deep_net();
  lab::FlatParameters parameters(*net);
  net->forward(all_inputs().narrow(0, 0, samples)).pow(2).sum().backward();
  at::Tensor flat = torch::zeros_like(parameters.values());
  for (const auto& slot : parameters.slots())
    lab::FlatParameters::view(flat, slot).copy_(slot.parameter.grad());
  return flat.div_(samples);
}

class ReducerTest : public testing::TestWithParam<bool> {
 protected:
  lab::Numerics numerics{GetParam(), 8};
};

TEST_P(ReducerTest, SumsAreTheOneBigBatchsGradient) {
  for (const int64_t samples : {24, 17, 3, 1}) {  // uneven, and empty shares
    auto net = deep_net();
    lab::FlatParameters parameters(*net);
    lab::GradientReducer reducer(test_group(), parameters, {numerics, 0.1});
    const auto sums = run_step(reducer, net, numerics, samples);
    const at::Tensor expected = reference(samples);
    EXPECT_LT((sums.gradients - expected).norm().item<double>() / expected.norm().item<double>(), 1e-14)
        << samples;
    EXPECT_EQ(sums.told().loss_weight, static_cast<double>(samples));
    EXPECT_TRUE(sums.told().finite);
    EXPECT_TRUE(reducer.unused().empty());
  }
}

TEST_P(ReducerTest, CollectivesAreBucketsInOneOrderAndStartBeforeBackwardEnds) {
  Recording comm(test_group());
  auto net = deep_net();
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(comm, parameters, {numerics, 0.1});
  ASSERT_GT(reducer.buckets(), 2);
  ASSERT_LT(reducer.buckets(), static_cast<int64_t>(parameters.slots().size()));
  // The hook of the first layer's weight comes last in backward: what was submitted before it overlapped.
  int submitted_before_the_end = -1;
  (*net)[0]->as<torch::nn::Linear>()->weight.register_hook([&](const at::Tensor& gradient) {
    submitted_before_the_end = comm.submitted;
    return gradient;
  });
  for (int step = 0; step < 2; ++step) {
    comm.log.clear();
    comm.submitted = 0;
    run_step(reducer, net, numerics, 24);
    EXPECT_EQ(comm.submitted, reducer.buckets());
    EXPECT_GT(submitted_before_the_end, 0);
    if (GetParam()) {
      const int64_t exchanges = comm.size() == 1 ? 0 : 2 * reducer.buckets();
      EXPECT_EQ(static_cast<int64_t>(comm.log.size()), exchanges + (step == 0));
    } else {
      EXPECT_EQ(static_cast<int64_t>(comm.log.size()), reducer.buckets() + (step == 0));
    }
    lab::require_equal(test_group(), {"order of collectives", lab::join(comm.log, "\n")});
  }
}

// Layers that are used in another order than they are registered in: each has a bucket of its own, of a size
// that tells it.
TEST(Reducer, BucketsAreReducedAsBackwardMakesThemWholeFromTheSecondStepOn) {
  Recording comm(test_group());
  const lab::Numerics numerics;
  torch::nn::Sequential net;
  for (const int64_t width : {300, 200, 100})  // used last, second, first
    net->push_back(torch::nn::Linear(torch::nn::LinearOptions(4, 4 * width).bias(false)));
  net->to(torch::kFloat64);
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(comm, parameters, {numerics, 1e-4});
  ASSERT_EQ(reducer.buckets(), 3);
  const auto reduced_in_a_step = [&] {
    comm.log.clear();
    at::Tensor x = torch::ones({1, 4}, torch::kFloat64);
    for (const size_t layer : {2, 1, 0})
      x = (*net)[layer]->as<torch::nn::Linear>()->forward(x).view({-1, 4}).sum(0, true).tanh();
    const lab::WeightedSum loss{x.sum(), torch::ones({}, torch::kFloat64)};
    const auto list = lab::micro_batches(numerics, comm.size(), comm.size(), 0, comm.rank(), comm.size());
    reducer.arm(list.front(), loss, true);
    loss.sum.backward();
    reducer.finish();
    std::vector<std::string> lines;
    for (const std::string& line : comm.log)
      if (line.starts_with("all_reduce")) lines.push_back(line);
    return lines;
  };
  const std::vector<std::string> of_model = {"all_reduce 1600", "all_reduce 3200", "all_reduce 4808"};
  EXPECT_EQ(reduced_in_a_step(), of_model);
  EXPECT_EQ(reduced_in_a_step(), (std::vector<std::string>{of_model[2], of_model[1], of_model[0]}));
}

TEST_P(ReducerTest, AParameterWithoutGradientCountsAsZerosAndIsNamed) {
  auto net = deep_net();
  auto spare = net->register_module("spare", torch::nn::Linear(3, 3));
  spare->to(torch::kFloat64);
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(test_group(), parameters, {numerics, 0.1});
  const auto forward = [&] {  // the container would run the spare layer too
    const auto list = lab::micro_batches(numerics, 24, 24, 0, test_group().rank(), test_group().size());
    for (size_t i = 0; i < list.size(); ++i) {
      at::Tensor x = all_inputs().narrow(0, list[i].positions.first, list[i].positions.count);
      for (size_t layer = 0; layer < 6; ++layer) x = (*net)[layer]->as<torch::nn::Linear>()->forward(x);
      const lab::WeightedSum loss{x.pow(2).sum(), torch::ones({}, torch::kFloat64)};
      reducer.arm(list[i], loss, i + 1 == list.size());
      loss.sum.backward();
    }
    return reducer.finish();
  };
  forward();
  const auto sums = forward();
  const std::set<std::string> unused(reducer.unused().begin(), reducer.unused().end());
  EXPECT_EQ(unused, (std::set<std::string>{"spare.weight", "spare.bias"}));
  for (const auto& slot : parameters.slots()) {
    const double norm = lab::FlatParameters::view(sums.gradients, slot).norm().item<double>();
    EXPECT_EQ(norm == 0, unused.contains(slot.name)) << slot.name;
  }
}

TEST_P(ReducerTest, ANonFiniteGradientOnOneRankIsSeenByAll) {
  auto net = deep_net();
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(test_group(), parameters, {numerics, 0.1});
  const auto list = lab::micro_batches(numerics, 24, 24, 0, test_group().rank(), test_group().size());
  for (size_t i = 0; i < list.size(); ++i) {
    const double poison = test_group().rank() == test_group().size() - 1 ? std::nan("") : 1.0;
    const lab::WeightedSum loss{net->forward(all_inputs()).sum() * poison, torch::ones({}, torch::kFloat64)};
    reducer.arm(list[i], loss, i + 1 == list.size());
    loss.sum.backward();
  }
  EXPECT_FALSE(reducer.finish().told().finite);
}

// Of about 15 units, or many.
lab::Range part_of_this_rank(lab::FlatParameters& parameters) {
  const auto& comm = test_group();
  const int64_t unit = lab::part_unit;
  const lab::Range units = lab::shard((parameters.size() + unit - 1) / unit, comm.rank(), comm.size());
  return {units.first * unit, std::min(units.end() * unit, parameters.size()) - units.first * unit};
}

// 300 wide the gradients are over 4 MiB, so that no more of them wait than must.
TEST_P(ReducerTest, PartsHaveTheBitsOfTheWholeSum) {
  for (const int64_t width : {100, 300})
    for (const int64_t accumulate : {1, 3}) {
      numerics.accumulate = accumulate;
      auto net = deep_net(width);
      lab::FlatParameters parameters(*net);
      lab::GradientReducer reducer(test_group(), parameters, {numerics, 0.1, true, true});
      const lab::Range part = part_of_this_rank(parameters);
      for (const int64_t samples : {24, 17, 3, 1}) {
        reducer.want({0, parameters.size()});
        auto whole = run_step(reducer, net, numerics, samples);
        whole.gradients = whole.gradients.clone();
        reducer.want(part);
        for (int step = 0; step < 2; ++step) {
          const auto sums = run_step(reducer, net, numerics, samples);
          ASSERT_EQ(sums.part, part);
          EXPECT_TRUE(torch::equal(sums.gradients.narrow(0, part.first, part.count),
                                   whole.gradients.narrow(0, part.first, part.count)))
              << width << " wide, " << accumulate << " batches, " << samples << " samples";
          EXPECT_EQ(sums.told().loss_sum, whole.told().loss_sum);
          EXPECT_EQ(sums.told().loss_weight, whole.told().loss_weight);
          EXPECT_EQ(sums.told().norm, whole.told().norm);
          EXPECT_TRUE(sums.told().finite);
        }
        EXPECT_NEAR(whole.told().norm / whole.gradients.norm().item<double>(), 1, 1e-14);
      }
    }
}

TEST_P(ReducerTest, ANonFiniteElementInOnePartIsSeenByAll) {
  auto net = deep_net();
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(test_group(), parameters, {numerics, 0.1});
  reducer.want(part_of_this_rank(parameters));
  double factor = 1;
  (*net)[3]->as<torch::nn::Linear>()->bias.register_hook([&](const at::Tensor& gradient) {
    return test_group().rank() == test_group().size() - 1 ? gradient * factor : gradient;
  });
  EXPECT_TRUE(run_step(reducer, net, numerics, 24).told().finite);
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    factor = bad;
    EXPECT_FALSE(run_step(reducer, net, numerics, 24).told().finite);
  }
}

// Two heads on one trunk, each in a loss of its own, and a third loss of the trunk alone. Whole numbers, so
// that sums are the same in any order.
struct TwoHeads {
  explicit TwoHeads(bool whole_numbers = true) {
    torch::manual_seed(1);
    for (const char* name : {"trunk", "left", "right"})
      net->push_back(name, torch::nn::Linear(torch::nn::LinearOptions(20, 20).bias(false)));
    net->to(torch::kFloat64);
    if (!whole_numbers) return;
    const torch::NoGradGuard no_grad;
    for (const auto& parameter : net->parameters()) parameter.copy_(torch::randint(-3, 4, parameter.sizes()));
  }
  std::vector<at::Tensor> losses(const at::Tensor& x) {
    const auto layer = [&](size_t i, const at::Tensor& in) {
      return (*net)[i]->as<torch::nn::Linear>()->forward(in);
    };
    const at::Tensor inside = layer(0, x);
    return {layer(1, inside).sum(), (layer(2, inside) * inside).sum(), inside.pow(2).sum()};
  }
  torch::nn::Sequential net;
};

at::Tensor whole_inputs() {
  torch::manual_seed(2);
  return torch::randint(-4, 5, {24, 20}, torch::kFloat64);
}

// A step with a backward for each loss, in this order; or with one for their sum.
lab::StepSums step_of_losses(
    lab::GradientReducer& reducer, TwoHeads& model, const at::Tensor& inputs, const lab::Numerics& numerics,
    bool at_once, const std::function<void(size_t pass)>& before_pass = [](size_t) {}) {
  auto& comm = test_group();
  const auto list = lab::micro_batches(numerics, 24, 24, 0, comm.rank(), comm.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const lab::Range positions = list[i].positions;
    const auto losses = model.losses(inputs.narrow(0, positions.first, positions.count));
    const at::Tensor sum = losses[0] + losses[1] + losses[2];
    const bool last = i + 1 == list.size();
    const lab::WeightedSum loss{sum, torch::ones({}, torch::kFloat64)};
    reducer.arm(list[i], loss, last, {}, at_once ? 1 : 3);
    if (at_once) sum.backward();
    for (size_t pass = 0; pass < losses.size() && !at_once; ++pass) {
      if (last) before_pass(pass);
      losses[pass].backward({}, /*retain_graph=*/true);
    }
  }
  return reducer.finish();
}

TEST_P(ReducerTest, SeveralLossesAddUpToTheGradientOfTheirSum) {
  for (const bool whole_numbers : {true, false}) {
    TwoHeads model(whole_numbers), same(whole_numbers);
    const at::Tensor inputs = whole_numbers ? whole_inputs() : whole_inputs() / 7;
    lab::FlatParameters parameters(*model.net), same_parameters(*same.net);
    lab::GradientReducer reducer(test_group(), parameters, {numerics, 1e-4});
    lab::GradientReducer at_once(test_group(), same_parameters, {numerics, 1e-4});
    for (int step = 0; step < 3; ++step) {
      const auto found = step_of_losses(reducer, model, inputs, numerics, false);
      const auto expected = step_of_losses(at_once, same, inputs, numerics, true);
      const auto norm = expected.gradients.norm().item<double>();
      EXPECT_GT(norm, 0);
      EXPECT_LE((found.gradients - expected.gradients).norm().item<double>(),
                whole_numbers ? 0 : 1e-14 * norm);
      EXPECT_EQ(found.told().loss_sum, expected.told().loss_sum);
    }
    EXPECT_TRUE(reducer.unused().empty()) << "each head is in one of the losses";
    for (const auto& parameter : model.net->parameters()) EXPECT_FALSE(parameter.grad().defined());
  }
}

// What only some losses reach is whole in finish(); the buckets go in one order all the same.
TEST_P(ReducerTest, ABucketOfSeveralLossesWaitsForAllOfThem) {
  Recording comm(test_group());
  TwoHeads model;
  lab::FlatParameters parameters(*model.net);
  lab::GradientReducer reducer(comm, parameters, {numerics, 1e-4});
  ASSERT_EQ(reducer.buckets(), 3);
  for (int step = 0; step < 2; ++step) {
    comm.log.clear();
    comm.submitted = 0;
    step_of_losses(reducer, model, whole_inputs(), numerics, false,
                   [&](size_t) { EXPECT_EQ(comm.submitted, 0) << "before all losses are through"; });
    EXPECT_EQ(comm.submitted, 3);
    lab::require_equal(test_group(), {"order of collectives", lab::join(comm.log, "\n")});
  }
}

// Where every loss reaches every parameter, buckets leave during the last backward.
TEST_P(ReducerTest, BucketsOfSeveralLossesLeaveDuringTheLastBackward) {
  Recording comm(test_group());
  auto net = deep_net();
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(comm, parameters, {numerics, 0.1});
  int submitted_before_the_end = -1;
  (*net)[0]->as<torch::nn::Linear>()->weight.register_hook([&](const at::Tensor& gradient) {
    submitted_before_the_end = comm.submitted;
    return gradient;
  });
  const auto list = lab::micro_batches(numerics, 24, 24, 0, comm.rank(), comm.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const at::Tensor out =
        net->forward(all_inputs().narrow(0, list[i].positions.first, list[i].positions.count));
    const lab::WeightedSum loss{out.pow(2).sum(), torch::ones({}, torch::kFloat64)};
    reducer.arm(list[i], loss, i + 1 == list.size(), {}, 2);
    loss.sum.backward({}, /*retain_graph=*/true);
    EXPECT_EQ(submitted_before_the_end, 0);
    loss.sum.backward();
    EXPECT_EQ(submitted_before_the_end > 0, i + 1 == list.size());
  }
  const auto sums = reducer.finish();
  const at::Tensor expected = 2 * 24 / sums.told().loss_weight * reference(24);
  EXPECT_LT((sums.gradients - expected).norm().item<double>() / expected.norm().item<double>(), 1e-14);
}

TEST_P(ReducerTest, AGradientMoreThanPassesIsRefused) {
  auto net = deep_net();
  lab::FlatParameters parameters(*net);
  lab::GradientReducer reducer(test_group(), parameters, {numerics, 0.1});
  const auto list = lab::micro_batches(numerics, 24, 24, 0, test_group().rank(), test_group().size());
  const lab::WeightedSum loss{net->forward(all_inputs()).sum(), torch::ones({}, torch::kFloat64)};
  EXPECT_THROW(reducer.arm(list[0], loss, false, {}, 0), lab::Bug);
  reducer.arm(list[0], loss, false);
  loss.sum.backward({}, /*retain_graph=*/true);
  EXPECT_THROW(loss.sum.backward(), lab::Bug);
}

INSTANTIATE_TEST_SUITE_P(Numerics, ReducerTest, testing::Bool(),
                         [](const auto& run) { return run.param ? "Canonical" : "Ordinary"; });

}  // namespace
