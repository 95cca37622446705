// What callbacks are told and may ask for.

#include <gmock/gmock.h>
#include <torch/nn.h>

#include "fitting.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"

namespace lab {
namespace {

TrainPlan plan() {
  torch::manual_seed(3);
  return {.model = {torch::nn::Sequential(torch::nn::Linear(number_features, 3)), "x"},
          .loss = cross_entropy(),
          .optimizer = SGD{.lr = 0.1},
          .train = {.shuffle = true},
          .batch_size = 16};
}

// Writes down which hooks were called, and asks for what it was made for.
class Script final : public Callback {
 public:
  std::string name() const override { return "script"; }
  void fit_started(const FitReport&) override { said.push_back("fit"); }
  void fit_finished(const FitEnd& end) override {
    said.push_back(text("end after ", end.steps, ": ", end.stopped_by));
  }
  void failed(const std::exception& error) override {
    said.push_back(text("failed: ", error.what()));
    throw std::runtime_error("nobody hears of it");
  }
  void epoch_started(int64_t epoch) override { said.push_back(text("epoch ", epoch)); }
  void first_validation_finished(const EpochReport&) override { said.push_back("first"); }
  void validation_finished(const Values& values) override { said.push_back("validated " + values[0].first); }
  Signal step_finished(const StepReport& report) override {
    said.push_back(text("step ", report.step));
    if (report.step == throws_at) throw ConfigError("as asked");
    return {.stop = report.step == stops_at,
            .reason = "enough",
            .values = {{"own", static_cast<double>(report.step)}}};
  }
  Signal epoch_finished(const EpochReport& report) override {
    said.push_back(text("done ", report.epoch));
    return {.values = {{"own_epoch", 7.0}}};
  }

  std::vector<std::string> said;
  int64_t stops_at = -1, throws_at = -1;
};

class CallbacksTest : public Fitting {
 protected:
  CallbacksTest() {
    options_.max_epochs = 1;
    options_.enable_checkpointing = false;
  }
  FitResult fit_with(std::vector<std::shared_ptr<Callback>> callbacks,
                     std::vector<std::shared_ptr<Callback>> recorders = {}) {
    TrainPlan what = plan();
    what.callbacks = std::move(callbacks);
    const auto sink = no_checkpoints();
    Trainer trainer(std::move(what), options_,
                    {*group_, Log::silent(), source_, source_, *sink, std::move(recorders)});
    return trainer.fit();
  }
  std::shared_ptr<Script> script_ = std::make_shared<Script>();
};

TEST_F(CallbacksTest, AreToldOfEverythingInOrder) {
  fit_with({script_});
  EXPECT_THAT(script_->said, testing::ElementsAre("fit", "validated loss/validate", "first", "epoch 0",
                                                  "step 0", "step 1", "step 2", "step 3",
                                                  "validated loss/train_epoch", "done 0", "end after 4: "));
}

TEST_F(CallbacksTest, StopBehindTheStepTheyAreToldOf) {
  options_.max_epochs = 5;
  script_->stops_at = 5;
  const FitResult result = fit_with({script_});
  EXPECT_EQ(result.steps, 6);
  EXPECT_EQ(result.stopped_by, "enough");
  EXPECT_EQ(script_->said.back(), "end after 6: enough");
}

TEST_F(CallbacksTest, DoNotStopBeforeMinSteps) {
  options_.max_epochs = 5;
  options_.min_steps = 10;
  script_->stops_at = 5;
  EXPECT_EQ(fit_with({script_}).steps, 20);
}

TEST_F(CallbacksTest, ValuesReachTheRecorders) {
  const auto heard = std::make_shared<Heard>();
  fit_with({script_}, {heard});
  ASSERT_EQ(heard->steps.size(), 4U);
  EXPECT_EQ(value_of(heard->steps[2].values, "own"), 2.0);
  EXPECT_EQ(value_of(heard->epochs[0].values, "own_epoch"), 7.0);
}

TEST_F(CallbacksTest, AreToldWhatEndsTheRun) {
  script_->throws_at = 1;
  EXPECT_THROW(fit_with({script_}), ConfigError);
  EXPECT_EQ(script_->said.back(), "failed: as asked");
}

TEST_F(CallbacksTest, MonitorsAddTheirValues) {
  const auto heard = std::make_shared<Heard>();
  fit_with({learning_rate_monitor(), throughput_monitor()}, {heard});
  EXPECT_EQ(value_of(heard->steps[3].values, "learning_rate"), 0.1);
  const Values& epoch = heard->epochs[0].values;
  for (const char* tag : {"samples_per_second", "seconds", "memory_gb"})
    EXPECT_GT(value_of(epoch, text("throughput/", tag)).value_or(0), 0) << tag;
  for (const char* tag : {"data_wait", "gradient_wait"}) {
    EXPECT_GT(value_of(epoch, text("throughput/", tag)).value_or(0), 0) << tag;
    EXPECT_LT(value_of(epoch, text("throughput/", tag)).value_or(2), 1) << tag;
  }
}

// The validation before the first step.
TEST_F(CallbacksTest, TheFirstValidationMayBeOfSomeBatchesOrNone) {
  const auto samples_of_first = [&](int64_t batches) {
    options_.num_sanity_val_steps = batches;
    class Counting final : public Callback {
     public:
      std::string name() const override { return "counting"; }
      void validation_started(int64_t samples) override { counts.push_back(samples); }
      std::vector<int64_t> counts;
    };
    const auto counting = std::make_shared<Counting>();
    EXPECT_EQ(fit_with({counting}).steps, 4);
    return counting->counts;
  };
  EXPECT_THAT(samples_of_first(-1), testing::ElementsAre(60, 60));
  EXPECT_THAT(samples_of_first(0), testing::ElementsAre(60));
  EXPECT_THAT(samples_of_first(2), testing::ElementsAre(32, 60));
  EXPECT_THAT(samples_of_first(9), testing::ElementsAre(60, 60));
}

}  // namespace
}  // namespace lab
