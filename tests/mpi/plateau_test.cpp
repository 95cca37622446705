// A rate that falls on a plateau: in the steps of a run, and of one that goes on.

#include <torch/nn.h>

#include "fitting.h"
#include "lab/comm/agreement.h"

namespace lab {
namespace {

// No epoch but the first is better than the one before.
TrainPlan plan(std::shared_ptr<Heard> heard = std::make_shared<Heard>()) {
  torch::manual_seed(3);
  return {.model = {torch::nn::Sequential(torch::nn::Linear(number_features, 3)), "x"},
          .loss = cross_entropy(),
          .optimizer = AdamW{.lr = 0.05},
          .plateau = Plateau{.factor = 0.5, .patience = 0, .threshold = 1e9, .relative = false},
          .train = {.shuffle = true},
          .batch_size = 16,
          .callbacks = {std::move(heard)}};
}

using PlateauRuns = Fitting;

TEST_F(PlateauRuns, TheRateFallsAtTheEndOfAnEpoch) {
  options_.max_epochs = 4;
  const auto heard = std::make_shared<Heard>();
  fit("run", plan(heard));
  ASSERT_EQ(heard->steps.size(), 16u);
  const std::vector<double> factors = {1, 1, 0.5, 0.25};
  for (const StepReport& step : heard->steps)
    EXPECT_EQ(step.rate, 0.05 * factors[static_cast<size_t>(step.epoch)]) << step.step;
}

TEST_F(PlateauRuns, GoOnWithTheSameRates) {
  options_.max_epochs = 5;
  fit("whole", plan());
  for (const char* from : {"epoch=0-step=4.safetensors", "epoch=2-step=12.safetensors",
                           "epoch=3-step=15.safetensors", "epoch=3-step=16.safetensors"}) {
    fit(from, plan(), from, "whole");
    EXPECT_TRUE(last(from) == last("whole")) << from;
  }
}

TEST_F(PlateauRuns, AMonitorThatIsNotMeasuredIsRefused) {
  TrainPlan wrong = plan();
  wrong.plateau->monitor = "loss/val";
  EXPECT_THROW(fit("run", std::move(wrong)), AgreedError);
}

}  // namespace
}  // namespace lab
