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

// The third step of each epoch is poisoned; a checkpoint is taken after each second step.
TEST_F(SkippedStepsTest, RollBackToTheLastCheckpoint) {
  options_.on_non_finite = "roll_back";
  options_.checkpoint_every_n_steps = 2;
  options_.max_epochs = 3;
  for (const char* numerics : {"ordinary", "canonical"}) {
    options_.numerics = numerics;
    const std::string run = text("run_", numerics), again = text("again_", numerics);
    TrainPlan what = plan(true);
    what.train.transforms = what.train.transforms + map("late", [](Sample& sample, Rng&) {
                              if (sample.id == 50)
                                sample["x"].data<float>()[0] = std::numeric_limits<float>::infinity();
                            });  // in the fourth step: now both behind the checkpoint are given up
    const auto steps = steps_of(run, std::move(what));
    ASSERT_EQ(steps.size(), 12U);
    for (const auto& step : steps) EXPECT_EQ(step.skipped, step.step % 4 >= 2) << step.step;
    if (group_->rank() == 0) {
      expect_equal(saved(run, 4), saved(run, 2));  // the second has the epoch's sums too
    }
  }
}

// What was learned between the checkpoint and the poisoned step is given up as well, on a course that goes on
// alike.
TEST_F(SkippedStepsTest, RollBackGivesUpWhatCameBetween) {
  options_.on_non_finite = "roll_back";
  options_.checkpoint_every_n_steps = 0;
  options_.max_epochs = 2;
  const auto steps = steps_of("run", plan(true));  // each epoch is set back to its begin in its third step
  options_.on_non_finite = "skip";
  const auto skipped = steps_of("skipped", plan(true));
  ASSERT_EQ(steps.size(), 8U);
  EXPECT_EQ(steps[1].loss, skipped[1].loss);
  EXPECT_NE(steps[3].loss, skipped[3].loss);
  options_.on_non_finite = "roll_back";
  fit("again", plan(true), "epoch=0-step=4.safetensors", "run");
  if (group_->rank() == 0) {
    EXPECT_EQ(saved("run", 4).state.optimizer_steps, 1);  // the fourth step's
    expect_equal(saved("run", 8), saved("again", 8));
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
