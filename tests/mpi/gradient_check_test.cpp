// What a run's own gradients are held against, and BatchNorm over all ranks.

#include "lab/train/gradient_check.h"

#include <gtest/gtest.h>
#include <torch/nn.h>

#include "apart.h"
#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/train/sync_batch_norm.h"
#include "lab/train/trainer.h"
#include "numbers.h"
#include "recording.h"

namespace lab {
namespace {

// BatchNorm of images and of rows; each works on what the one before left.
struct NormNetImpl : torch::nn::Module {
  NormNetImpl(bool of_rows, double drop) : of_rows_(of_rows), dropout(drop) {
    register_module("first", first);
    register_module("norm2d", norm2d);
    register_module("second", second);
    register_module("dropout", dropout);
    if (of_rows_) register_module("norm1d", norm1d);
    register_module("third", third);
  }
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor y = norm2d(first(x).tanh().view({-1, 2, 2, 2})).flatten(1);
    y = second(dropout(y).tanh());
    return third(of_rows_ ? norm1d(y) : y);
  }

 private:
  bool of_rows_;
  torch::nn::Linear first{number_features, 8}, second{8, 8}, third{8, 3};
  torch::nn::BatchNorm2d norm2d{2};
  torch::nn::BatchNorm1d norm1d{torch::nn::BatchNormOptions(8).affine(false).momentum(std::nullopt)};
  torch::nn::Dropout dropout;
};
TORCH_MODULE(NormNet);

NormNet norm_net(bool of_rows, double drop = 0) {
  torch::manual_seed(3);
  return NormNet(of_rows, drop);
}

TrainPlan plan_of(Model model, int64_t batch_size, Loss loss = cross_entropy("labels", {1, 2, 0.5})) {
  return {.model = std::move(model),
          .loss = std::move(loss),
          .optimizer = SGD{.lr = 0.1, .momentum = 0.9},
          .train = {.transforms = {divide("x", 1)}, .shuffle = true},  // in the run's precision
          .batch_size = batch_size};
}

class GradientCheck : public testing::Test {
 protected:
  GradientCheck() { options_.max_epochs = 2; }

  Trainer trainer(TrainPlan plan, int64_t samples, Communicator& comm) {
    return {std::move(plan),
            options_,
            {.comm = comm, .train = numbers(temporary_, samples), .checkpoints = *no_files_}};
  }
  std::vector<GradientComparison> compared(TrainPlan plan, int64_t samples) {
    return trainer(std::move(plan), samples, test_group()).compare_gradients();
  }
  void expect_equal(const std::vector<GradientComparison>& comparisons, size_t steps) {
    EXPECT_EQ(comparisons.size(), steps);
    if (test_group().rank() != 0) return;
    for (const auto& comparison : comparisons) {
      EXPECT_FALSE(comparison.parameters.empty());
      for (const auto& [name, relative, ok] : comparison.parameters)
        EXPECT_TRUE(ok) << name << " " << relative << ", step " << comparison.step;
    }
  }

  const test::TemporaryFolder temporary_;
  const std::unique_ptr<CheckpointSink> no_files_ = no_checkpoints();
  TrainerOptions options_;
};

TEST_F(GradientCheck, RanksHaveTheWholeBatchsGradient) {
  for (const char* precision : {"32-true", "64-true"})
    for (const char* numerics : {"ordinary", "canonical"})
      for (const int64_t accumulate : {1, 3}) {
        options_.precision = precision;
        options_.numerics = numerics;
        options_.accumulate_grad_batches = accumulate;
        expect_equal(compared(plan_of({norm_net(true, 0.5), "x"}, 16), 60), 2);
        expect_equal(compared(plan_of({norm_net(false, 0.5), "x"}, 16), 49), 2);  // one sample is left
        expect_equal(compared(plan_of({norm_net(true, 0.5), "x"}, 16), 48), 1);
      }
}

TEST_F(GradientCheck, AGradientThatDependsOnTheSharesIsNamed) {
  // A sum that grows with the square of the share.
  const Loss squared = [of = cross_entropy()](const Parts& output, const Batch& batch) {
    WeightedSum loss = of(output, batch);
    loss.sum = loss.sum * static_cast<double>(batch.count());
    return loss;
  };
  options_.accumulate_grad_batches = 3;
  const auto comparisons = compared(plan_of({norm_net(false), "x"}, 16, squared), 48);
  ASSERT_EQ(comparisons.size(), 1u);
  if (test_group().rank() != 0) return;
  EXPECT_EQ(comparisons[0].samples, 48);
  EXPECT_EQ(comparisons[0].batches, 3);
  ASSERT_EQ(comparisons[0].parameters.size(), 8u);
  EXPECT_EQ(comparisons[0].parameters[0].parameter, "first.weight");
  for (const auto& [name, relative, ok] : comparisons[0].parameters) {
    EXPECT_FALSE(ok) << name;
    EXPECT_GT(relative, 0.1) << name;
  }
  const std::string table = table_of(comparisons[0]);
  EXPECT_NE(table.find("step 0, 48 samples in 3 batches"), std::string::npos) << table;
  EXPECT_NE(table.find("first.weight"), std::string::npos) << table;
  EXPECT_NE(table.find("DIFFERS"), std::string::npos) << table;
  EXPECT_THROW(require_no_difference(comparisons), Bug);
}

// 60 samples on 4 ranks: even shares and, in the last batch, uneven ones; 50: the last batch has 2 samples,
// so that all but one rank have none.
TEST_F(GradientCheck, SyncBatchNormHasTheWholeBatchsGradient) {
  options_.sync_batchnorm = true;
  options_.precision = "64-true";
  for (const bool of_rows : {false, true})
    for (const int64_t samples : {60, 50, 46})
      expect_equal(compared(plan_of({norm_net(of_rows), "x"}, 16), samples), 2);
  options_.accumulate_grad_batches = 2;
  expect_equal(compared(plan_of({norm_net(true), "x"}, 16), 50), 2);
}

TEST_F(GradientCheck, SyncBatchNormTrainsAsOneRank) {
  options_.precision = "64-true";
  const auto alone = self_communicator();
  for (const int64_t accumulate : {1, 2})
    for (const int64_t samples : {60, 50}) {
      options_.accumulate_grad_batches = accumulate;
      const NormNet one = norm_net(true), all = norm_net(true);
      options_.sync_batchnorm = false;
      trainer(plan_of({one, "x"}, 16), samples, *alone).fit();
      options_.sync_batchnorm = true;
      trainer(plan_of({all, "x"}, 16), samples, test_group()).fit();
      const auto expected = model_tensors(*one), found = model_tensors(*all);
      ASSERT_EQ(expected.size(), found.size());
      for (size_t i = 0; i < found.size(); ++i)
        EXPECT_TRUE(torch::allclose(found[i].tensor, expected[i].tensor, 1e-9, 1e-11)) << found[i].name;
    }
}

// No bucket is on its way before backward has come to the first layer.
TEST_F(GradientCheck, SyncBatchNormTalksBeforeTheGradientsAreSummed) {
  options_.sync_batchnorm = true;
  options_.max_epochs = 1;
  options_.bucket_cap_mb = 1e-4;
  const NormNet net = norm_net(true);
  size_t backwards = 0;
  net->parameters().front().register_hook([&](const at::Tensor& gradient) {
    ++backwards;
    return gradient;
  });
  Apart apart(test_group());  // within a node nothing is on its way before backward has ended
  Recording group(apart);
  std::vector<size_t> when;
  group.on_submit = [&] { when.push_back(backwards); };
  trainer(plan_of({net, "x"}, 16), 50, group).fit();
  EXPECT_EQ(backwards, 4u);
  const size_t buckets = when.size() / 4;
  ASSERT_GT(buckets, 1u);
  for (size_t i = 0; i < when.size(); ++i) EXPECT_EQ(when[i], i / buckets + 1);
  require_equal(test_group(), {"order of collectives", join(group.log, "\n")});
}

TEST_F(GradientCheck, SyncBatchNormLeavesOthersAlone) {
  torch::manual_seed(5);
  torch::nn::Sequential net(torch::nn::Linear(number_features, 8), torch::nn::BatchNorm1d(8));
  torch::nn::BatchNorm1d other(8);
  torch::nn::InstanceNorm1d instance(torch::nn::InstanceNorm1dOptions(2).affine(true));
  const at::Tensor x = torch::randn({5, 8}) + test_group().rank(), rows = torch::randn({5, 2, 4});
  const at::Tensor expected = other(x), expected_rows = instance(rows);
  Recording group(test_group());
  SyncBatchNorm sync(*net, group);
  const at::Tensor some = torch::randn({4, number_features});
  net->forward(some);
  {
    const SyncBatchNorm::Together together(&sync, true);
    EXPECT_TRUE(torch::equal(other(x), expected));
    EXPECT_TRUE(torch::equal(instance(rows), expected_rows));
    net->eval();
    net->forward(some);
    EXPECT_TRUE(group.log.empty());
    net->train();
    net->forward(some);
  }
  EXPECT_EQ(group.log.size(), 1u);
}

TEST_F(GradientCheck, WhatSyncBatchNormCannotDoIsRefused) {
  options_.sync_batchnorm = true;
  const auto refused = [&](const torch::nn::BatchNorm1d& norm, const std::string& words) {
    torch::nn::Sequential net(torch::nn::Linear(number_features, 3), norm);
    try {
      trainer(plan_of({net, "x"}, 16), 60, test_group());
      ADD_FAILURE() << words;
    } catch (const AgreedError& e) {
      EXPECT_EQ(e.code(), ExitCode::bad_config);
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
  };
  const auto bare = torch::nn::BatchNormOptions(3).affine(false).track_running_stats(false);
  refused(torch::nn::BatchNorm1d(bare), "of the layers 1: they have neither");
  options_.numerics = "canonical";
  refused(torch::nn::BatchNorm1d(3), "canonical");
}

}  // namespace
}  // namespace lab
