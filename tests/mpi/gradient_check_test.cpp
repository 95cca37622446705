// What a run's own gradients are held against.

#include "lab/train/gradient_check.h"

#include <gtest/gtest.h>
#include <torch/nn.h>

#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/train/trainer.h"
#include "numbers.h"

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

}  // namespace
}  // namespace lab
