// Steps whose sums are not finite, where the run goes on; and losses that are scaled, which makes such steps.

#include <torch/nn.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "fitting.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"

namespace lab {
namespace {

constexpr int64_t poisoned_sample = 37;

TrainPlan plan(bool poisoned, double factor = 1) {
  torch::manual_seed(3);
  torch::nn::Sequential net(torch::nn::Linear(number_features, 8), torch::nn::BatchNorm1d(8),
                            torch::nn::ReLU(), torch::nn::Dropout(0.3), torch::nn::Linear(8, 3));
  const auto poison = map("poison", [poisoned](Sample& sample, Rng&) {
    if (poisoned && sample.id == poisoned_sample)
      sample["x"].data<float>()[2] = std::numeric_limits<float>::quiet_NaN();
  });
  const Loss loss = [factor, base = cross_entropy()](const Parts& output, const Batch& batch) {
    const WeightedSum sum = base(output, batch);
    return WeightedSum{sum.sum * factor, sum.weight};
  };
  return {.model = {net, "x"},
          .loss = loss,
          .optimizer = AdamW{.lr = 0.05},
          .ema = Ema{.decay = 0.9},
          .train = {.transforms = {poison}},  // in their order: the sample is in the third step of each epoch
          .batch_size = 16,
          .metrics = {accuracy()}};
}

class SkippedStepsTest : public Fitting {
 protected:
  SkippedStepsTest() { options_.on_non_finite = "skip"; }

  SavedRun saved(const std::string& run, int64_t step) const {
    return read_checkpoint(temporary_ / run +
                           text("/epoch=", (step - 1) / 4, "-step=", step, ".safetensors"));
  }
  std::vector<StepReport> steps_of(const std::string& run, TrainPlan what) {
    const auto heard = std::make_shared<Heard>();
    what.callbacks.push_back(heard);
    fit(run, std::move(what));
    return heard->steps;
  }
};

// All that a checkpoint has, but for where it is.
void expect_equal(const SavedRun& a, const SavedRun& b) {
  EXPECT_EQ(a.state.optimizer_steps, b.state.optimizer_steps);
  for (const auto& name : a.file.names()) {
    const TensorView *one = a.file.find(name), *other = b.file.find(name);
    ASSERT_NE(other, nullptr) << name;
    const auto bytes = static_cast<size_t>(byte_count(one->type, one->shape).value());
    EXPECT_EQ(std::memcmp(one->data, other->data, bytes), 0) << name;
  }
}

TEST_F(SkippedStepsTest, ChangeNothing) {
  for (const char* numerics : {"ordinary", "canonical"}) {
    options_.numerics = numerics;
    options_.max_epochs = 2;
    const std::string run = text("run_", numerics);
    const auto steps = steps_of(run, plan(true));
    ASSERT_EQ(steps.size(), 8U);
    for (const auto& step : steps) EXPECT_EQ(step.skipped, step.step % 4 == 2) << step.step;
    if (group_->rank() != 0) continue;
    expect_equal(saved(run, 2), saved(run, 3));
    expect_equal(saved(run, 6), saved(run, 7));
  }
}

TEST_F(SkippedStepsTest, AreAnErrorUnlessTheyAreAskedFor) {
  options_.on_non_finite = "stop";
  EXPECT_THROW(fit("run", plan(true)), AgreedError);
}

TEST_F(SkippedStepsTest, EndTheRunWhenThereIsNothingElse) {
  TrainPlan what = plan(false, std::numeric_limits<double>::infinity());
  options_.max_epochs = 100;
  EXPECT_THROW(fit("run", std::move(what)), AgreedError);
}

// Loss scaling: of 16-bit floats, whose gradients overflow at first.
TEST_F(SkippedStepsTest, ScaledLossesFindTheirScale) {
  options_.on_non_finite = "stop";
  options_.precision = "16-mixed";
  options_.max_epochs = 6;
  const auto steps = steps_of("run", plan(false, 1e4));
  ASSERT_EQ(steps.size(), 24U);
  EXPECT_TRUE(steps.front().skipped);
  EXPECT_FALSE(steps.back().skipped);
  for (const auto& step : steps) EXPECT_TRUE(std::isfinite(step.loss));
  EXPECT_LT(steps.back().loss, steps.front().loss);
  if (group_->rank() == 0) {
    EXPECT_NE(saved("run", 10).file.find("lab.loss_scale"), nullptr);
  }
  fit("again", plan(false, 1e4), "epoch=0-step=3.safetensors", "run");
  if (group_->rank() == 0)
    for (const int64_t step : {4, 5, 12, 24}) {
      SCOPED_TRACE(step);
      expect_equal(saved("run", step), saved("again", step));
    }
}

TEST_F(SkippedStepsTest, ScaledLossesStopForDataThatIsNotFinite) {
  options_.on_non_finite = "stop";
  options_.precision = "16-mixed";
  EXPECT_THROW(fit("run", plan(true)), AgreedError);
}

}  // namespace
}  // namespace lab
