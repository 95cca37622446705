// Several batches that make one optimizer step, against one batch of their size.

#include <gtest/gtest.h>
#include <torch/nn.h>

#include <algorithm>

#include "group.h"
#include "lab/train/trainer.h"
#include "numbers.h"

namespace lab {
namespace {

constexpr int64_t samples = 60;

// What a run told its callbacks, and the model it ended with.
struct Trained {
  FitReport fit;
  std::vector<StepReport> steps;
  FitResult result;
  std::vector<NamedTensor> model;
};

class Listening final : public Callback {
 public:
  explicit Listening(Trained& trained) : trained_(trained) {}
  std::string name() const override { return "listening"; }
  void fit_started(const FitReport& report) override { trained_.fit = report; }
  Signal step_finished(const StepReport& report) override {
    trained_.steps.push_back(report);
    return {};
  }

 private:
  Trained& trained_;
};

torch::nn::Sequential plain_net() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(number_features, 8), torch::nn::Tanh(),
                               torch::nn::Linear(8, 3));
}

torch::nn::Sequential net_with_everything() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(number_features, 8), torch::nn::BatchNorm1d(8),
                               torch::nn::ReLU(), torch::nn::Dropout(0.3), torch::nn::Linear(8, 3));
}

class StepsOfBatches : public testing::Test {
 protected:
  Trained train(torch::nn::Sequential net, int64_t batch_size, int64_t accumulate, Communicator& comm) {
    TrainerOptions options;
    options.max_epochs = 2;
    options.numerics = numerics_;
    options.precision = "64-true";
    options.gradient_clip_val = 0.5;
    options.accumulate_grad_batches = accumulate;
    Trained trained;
    TrainPlan plan{.model = {net, "x"},
                   .loss = cross_entropy("labels", {1, 2, 0.5}),
                   .optimizer = AdamW{.lr = 0.05},
                   .schedule = warmup_cosine(),
                   .train = {.transforms = {divide("x", 1)}, .shuffle = true},  // in the run's precision
                   .batch_size = batch_size,
                   .metrics = {accuracy()},
                   .callbacks = {std::make_shared<Listening>(trained)}};
    const auto sink = no_checkpoints();
    Trainer trainer(std::move(plan), options, {comm, Log::silent(), source_, nullptr, *sink, {}});
    trained.result = trainer.fit();
    trained.model = model_tensors(*net);
    return trained;
  }

  const test::TemporaryFolder temporary_;
  const std::shared_ptr<const Source> source_ = numbers(temporary_, samples);
  std::string numerics_ = "ordinary";
};

class AccumulationTest : public StepsOfBatches, public testing::WithParamInterface<const char*> {
 protected:
  AccumulationTest() { numerics_ = GetParam(); }
};

TEST_P(AccumulationTest, BatchesOfAStepAreOneBatchOfTheirSize) {
  struct Case {
    int64_t batch_size, accumulate;
  };
  const Trained whole = train(plain_net(), 16, 1, test_group());  // 16, 16, 16 and 12 samples
  EXPECT_EQ(whole.result.steps, 8);
  for (const auto& [batch_size, accumulate] : {Case{8, 2}, Case{4, 4}, Case{2, 8}, Case{1, 16}}) {
    const Trained parts = train(plain_net(), batch_size, accumulate, test_group());
    EXPECT_EQ(parts.result.steps, 8);
    EXPECT_EQ(parts.fit.steps_per_epoch, 4);
    EXPECT_EQ(parts.fit.batches_per_epoch, samples / batch_size + (samples % batch_size != 0));
    ASSERT_EQ(parts.steps.size(), whole.steps.size());
    for (size_t i = 0; i < whole.steps.size(); ++i) {
      EXPECT_NEAR(parts.steps[i].loss, whole.steps[i].loss, 1e-12);
      EXPECT_EQ(parts.steps[i].rate, whole.steps[i].rate);
      EXPECT_EQ(parts.steps[i].epoch, whole.steps[i].epoch);
      EXPECT_EQ(parts.steps[i].batch, whole.steps[i].batch);
    }
    for (size_t i = 0; i < whole.result.values.size(); ++i)
      EXPECT_NEAR(parts.result.values[i].second, whole.result.values[i].second, 1e-12);
    for (size_t i = 0; i < whole.model.size(); ++i)
      EXPECT_TRUE(torch::allclose(parts.model[i].tensor, whole.model[i].tensor, 1e-10, 1e-12))
          << whole.model[i].name << ", " << accumulate << " batches of " << batch_size;
  }
}

TEST_P(AccumulationTest, MoreBatchesThanAnEpochHasAreOneStep) {
  EXPECT_EQ(train(plain_net(), 16, std::numeric_limits<int64_t>::max(), test_group()).result.steps, 2);
}

TEST_P(AccumulationTest, EachBatchHasItsOwnStatistics) {
  const Trained parts = train(net_with_everything(), 8, 2, test_group());
  const auto batches = std::ranges::find(parts.model, "1.num_batches_tracked", &NamedTensor::name);
  ASSERT_NE(batches, parts.model.end());
  // Of 2 epochs of 8 batches, the last of which some leaves have nothing of.
  EXPECT_GE(batches->tensor.item<double>(), 14);
  EXPECT_LE(batches->tensor.item<double>(), 16);
}

// Shows which random numbers a micro-batch is given.
struct DrawingImpl : torch::nn::Module {
  DrawingImpl() : layer(register_module("layer", torch::nn::Linear(number_features, 3))) {}
  at::Tensor forward(const at::Tensor& x) {
    if (is_training()) drawn.push_back(torch::rand({}, torch::kFloat64).item<double>());
    return layer(x);
  }
  torch::nn::Linear layer;
  std::vector<double> drawn;
};
TORCH_MODULE(Drawing);

TEST_P(AccumulationTest, EachBatchHasItsOwnDropout) {
  const auto drawn = [&](int64_t accumulate) {
    Drawing net;
    train(torch::nn::Sequential(net), 8, accumulate, test_group());
    std::ranges::sort(net->drawn);
    return net->drawn;
  };
  const auto single = drawn(1);
  EXPECT_GE(single.size(), test_group().rank() == 0 ? 16u : 8u);
  EXPECT_EQ(std::ranges::adjacent_find(single), single.end());
  EXPECT_EQ(drawn(2), single);
}

TEST_F(StepsOfBatches, HaveTheBitsOfOneRankInCanonicalNumerics) {
  numerics_ = "canonical";
  const auto alone = self_communicator();
  for (const int64_t accumulate : {2, 5}) {  // 8 batches: in fours, and 5 and 3
    const Trained one = train(net_with_everything(), 8, accumulate, *alone);
    const Trained all = train(net_with_everything(), 8, accumulate, test_group());
    for (size_t i = 0; i < one.model.size(); ++i)
      EXPECT_TRUE(torch::equal(one.model[i].tensor, all.model[i].tensor)) << one.model[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Numerics, AccumulationTest, testing::Values("ordinary", "canonical"),
                         [](const auto& numerics) { return std::string(numerics.param); });

}  // namespace
}  // namespace lab
