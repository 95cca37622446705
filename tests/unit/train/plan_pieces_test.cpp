// Buckets, schedules, optimizers, losses, early stopping: the pieces of a plan, each by itself.

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn.h>
#include <torch/optim.h>

#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/train/buckets.h"
#include "lab/train/callback.h"
#include "lab/train/figure.h"
#include "lab/train/loss.h"
#include "lab/train/optimizer.h"
#include "lab/train/plan.h"
#include "lab/train/schedule.h"

namespace {

TEST(Buckets, FollowTheCapAndCoverEverything) {
  const std::vector<lab::Range> slots = {{0, 100}, {112, 100}, {224, 1000}, {1232, 10}, {1248, 10}};
  const auto buckets = lab::plan_buckets(slots, 1280, 4, 1000, 1000);
  ASSERT_EQ(buckets.size(), 3u);
  EXPECT_EQ(buckets[0].slots, (lab::Range{0, 2}));
  EXPECT_EQ(buckets[1].slots, (lab::Range{2, 1}));
  EXPECT_EQ(buckets[2].slots, (lab::Range{3, 2}));
  int64_t next = 0;
  for (const auto& bucket : buckets) {
    EXPECT_EQ(bucket.elements.first, next);
    next = bucket.elements.end();
  }
  EXPECT_EQ(next, 1280);
  EXPECT_EQ(lab::plan_buckets(slots, 1280, 4, 1 << 20, 1 << 20).size(), 1u);
  EXPECT_EQ(lab::plan_buckets(slots, 1280, 4, 1, 1).size(), 5u);
}

TEST(Schedule, MultiStepMultipliesAtEachMilestone) {
  const auto schedule = lab::multi_step({5, 8}, 0.2);
  EXPECT_EQ(schedule.factor({4, 400, 100, -1}), 1);
  EXPECT_EQ(schedule.factor({5, 500, 100, -1}), 0.2);
  EXPECT_EQ(schedule.factor({8, 800, 100, -1}), 0.2 * 0.2);
}

TEST(Schedule, CosineWarmsUpAndEndsAtZero) {
  const auto schedule = lab::warmup_cosine(0.1);
  EXPECT_DOUBLE_EQ(schedule.factor({0, 0, 10, 100}), 0.1);
  EXPECT_DOUBLE_EQ(schedule.factor({0, 9, 10, 100}), 1);
  EXPECT_DOUBLE_EQ(schedule.factor({5, 55, 10, 100}), 0.5);
  EXPECT_NEAR(schedule.factor({10, 100, 10, 100}), 0, 1e-15);
}

lab::Batch labels(at::Tensor tensor) {
  lab::Batch batch;
  batch.ids.resize(static_cast<size_t>(tensor.size(0)));
  batch.parts.add("labels", std::move(tensor));
  return batch;
}

TEST(LossTerms, TheirTotalIsTheWeightedSumOfTheirMeans) {
  torch::manual_seed(1);
  const at::Tensor output = torch::randn({5, 3}, torch::requires_grad()), target = torch::rand({5, 3});
  const lab::Loss rows = [](const lab::Parts& out, const lab::Batch& batch) {  // one number for each sample
    return lab::WeightedSum{(out.only().sum(1) - batch["labels"].sum(1)).abs().sum(), torch::tensor(5.0F)};
  };
  const std::vector<lab::LossTerm> terms = {{"squares", lab::mse()}, {"rows", rows, 0.25}};
  const auto batch = labels(target);
  const lab::WeightedSum all = lab::total(terms)(lab::Parts(output), batch);
  const at::Tensor squares = torch::mse_loss(output, target),
                   sums = (output.sum(1) - target.sum(1)).abs().mean();
  EXPECT_TRUE(torch::allclose(all.sum / all.weight, squares + 0.25 * sums));
  EXPECT_TRUE(torch::allclose(torch::autograd::grad({all.sum / all.weight}, {output})[0],
                              torch::autograd::grad({squares + 0.25 * sums}, {output})[0]));

  const lab::Metric each = lab::loss_terms(terms);
  EXPECT_EQ(each.keys, (std::vector<std::string>{"squares", "rows"}));
  std::vector<double> numbers;
  for (const at::Tensor& number : each.count(lab::Parts(output), batch))
    numbers.push_back(number.item<double>());
  const auto means = each.values(numbers);
  EXPECT_NEAR(means.at(0), squares.item<double>(), 1e-6);
  EXPECT_NEAR(means.at(1), sums.item<double>(), 1e-6);
  EXPECT_THROW(lab::total({}), lab::ConfigError);
}

struct SumOfParts : torch::nn::Module {
  at::Tensor forward(const lab::Batch& batch) { return batch["left"] + batch["right"]; }
};

TEST(Model, TakesOneTensorOrTheBatch) {
  lab::Batch batch = labels(torch::zeros({2}));
  batch.parts.add("images", torch::ones({2, 3}));
  batch.parts.add("left", torch::ones({2}));
  batch.parts.add("right", torch::ones({2}));
  const lab::Model chain =
      torch::nn::Sequential(torch::nn::Flatten(), torch::nn::ReLU());  // would take anything
  EXPECT_TRUE(chain.forward(batch).only().equal(torch::ones({2, 3})));
  EXPECT_TRUE(lab::Model(torch::nn::ReLU(), "left").forward(batch).only().equal(torch::ones({2})));
  const lab::Model whole = torch::nn::ModuleHolder<SumOfParts>(std::make_shared<SumOfParts>());
  EXPECT_TRUE(whole.forward(batch).only().equal(torch::full({2}, 2.0)));
}

TEST(Model, TorchsRefusalNamesTheBatch) {
  lab::Batch batch;
  batch.ids = {0, 1};
  batch.parts.add("images", torch::zeros({2, 5}));
  try {
    lab::Model(torch::nn::Linear(4, 3)).forward(batch);
    FAIL();
  } catch (const lab::ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("2 samples: images (2, 5)"), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).find("frame #"), std::string::npos) << e.what();
  }
}

TEST(Model, BatchNormOfVectorsNeedsTwoSamples) {
  EXPECT_EQ(lab::least_samples_of(*torch::nn::Sequential(torch::nn::Linear(4, 3))), 1);
  EXPECT_EQ(lab::least_samples_of(*torch::nn::Sequential(torch::nn::BatchNorm2d(3))), 1);
  EXPECT_EQ(lab::least_samples_of(*torch::nn::Sequential(torch::nn::Sequential(torch::nn::BatchNorm1d(3)))),
            2);
}

TEST(Loss, SumOverWeightIsTorchsMean) {
  torch::manual_seed(0);
  const at::Tensor logits = torch::randn({7, 4}, torch::kFloat64);
  const at::Tensor classes = torch::tensor({0, 1, 2, 3, 0, 1, 1}, torch::kLong);
  const std::vector<double> weights = {0.5, 1, 2, 4};
  const auto mean = [&](const lab::Loss& loss, const at::Tensor& target) {
    const auto value = loss(logits, labels(target));
    return (value.sum / value.weight).item<double>();
  };
  namespace F = torch::nn::functional;
  EXPECT_NEAR(mean(lab::cross_entropy(), classes), F::cross_entropy(logits, classes).item<double>(), 1e-14);
  EXPECT_NEAR(mean(lab::cross_entropy("labels", weights), classes),
              F::cross_entropy(logits, classes,
                               F::CrossEntropyFuncOptions().weight(torch::tensor(weights, torch::kFloat64)))
                  .item<double>(),
              1e-14);
  const at::Tensor targets = torch::rand({7, 4}, torch::kFloat64);
  EXPECT_NEAR(mean(lab::bce_with_logits(), targets),
              F::binary_cross_entropy_with_logits(logits, targets).item<double>(), 1e-14);
  EXPECT_NEAR(mean(lab::mse(), targets), F::mse_loss(logits, targets).item<double>(), 1e-14);
}

TEST(Loss, ShapesThatDoNotFitAreRefused) {
  const at::Tensor logits = torch::zeros({7, 4});
  EXPECT_THROW(lab::mse()(logits, labels(torch::zeros({7}))), lab::ConfigError);
  EXPECT_THROW(lab::cross_entropy()(logits, labels(torch::zeros({7, 4}))), lab::ConfigError);
  EXPECT_THROW(lab::mse("images")(logits, labels(torch::zeros({7, 4}))), lab::ConfigError);
}

TEST(Figure, ConfusionMatrixCountsTruthAgainstPrediction) {
  const lab::Figure figure = lab::confusion_matrix({"a", "b", "c"});
  const at::Tensor logits = torch::eye(3).index_select(0, torch::tensor({0, 2, 2, 1}));
  const at::Tensor expected = torch::tensor({1, 0, 1, 0, 0, 1, 0, 1, 0}, torch::kLong);  // by truth
  const at::Tensor truth = torch::tensor({0, 0, 1, 2}, torch::kLong);
  EXPECT_TRUE(figure.count(logits, labels(truth)).equal(expected));
  EXPECT_TRUE(figure.count(logits, labels(torch::eye(3).index_select(0, truth))).equal(expected));
  EXPECT_THROW(figure.count(torch::zeros({4, 2}), labels(truth)), lab::ConfigError);
}

TEST(Figure, ConfusionMatrixIsDrawnAsPlotlyReadsIt) {
  const auto drawn = nlohmann::json::parse(
      plotly(lab::confusion_matrix({"a", "b"}).draw(std::vector<double>{3, 1, 0, 1234567})));
  const auto& matrix = drawn.at("data").at(0);
  EXPECT_EQ(matrix.at("type"), "heatmap");
  EXPECT_EQ(matrix.at("z").dump(), "[[3,1],[0,1234567]]");
  EXPECT_EQ(matrix.at("y").dump(), R"(["a","b"])");
  EXPECT_TRUE(drawn.at("layout").is_object());
}

// Five steps on sums of gradients with a divisor against torch's own optimizer on the means.
template <class TorchOptimizer>
void steps_as_torch(const lab::OptimizerPlan& plan,
                    const std::function<TorchOptimizer(std::vector<at::Tensor>)>& make) {
  torch::manual_seed(0);
  at::Tensor ours = torch::randn({1000});
  at::Tensor theirs = ours.clone().requires_grad_(true);
  const auto optimizer = lab::make_optimizer(plan, ours);
  TorchOptimizer reference = make({theirs});
  for (int i = 0; i < 5; ++i) {
    at::Tensor mean = torch::randn({1000});
    theirs.mutable_grad() = mean.clone();
    reference.step();
    at::Tensor sums = mean * 12;
    optimizer->step(ours, sums, torch::full({}, 12.0F), {}, {lab::base_rate(plan)});
  }
  EXPECT_LT((ours - theirs.detach()).abs().max().item<double>(), 2e-6);
  EXPECT_EQ(optimizer->steps(), 5);
}

TEST(Optimizer, AdamWAndSgdStepAsTorchs) {
  steps_as_torch<torch::optim::AdamW>(lab::AdamW{.lr = 0.01, .weight_decay = 0.1}, [](auto p) {
    return torch::optim::AdamW(p, torch::optim::AdamWOptions(0.01).weight_decay(0.1));
  });
  steps_as_torch<torch::optim::SGD>(
      lab::SGD{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true}, [](auto p) {
        return torch::optim::SGD(
            p, torch::optim::SGDOptions(0.1).momentum(0.9).weight_decay(0.01).nesterov(true));
      });
  steps_as_torch<torch::optim::SGD>(
      lab::SGD{.lr = 0.1}, [](auto p) { return torch::optim::SGD(p, torch::optim::SGDOptions(0.1)); });
}

std::vector<lab::OptimizerPlan> all_optimizers() {
  return {lab::AdamW{.lr = 0.01, .amsgrad = true},
          lab::SGD{.lr = 0.1, .momentum = 0.9},
          lab::Adam{.lr = 0.01},
          lab::Adagrad{.weight_decay = 0.1, .initial_accumulator = 0.1},
          lab::RMSprop{.weight_decay = 0.1, .momentum = 0.9, .centered = true},
          lab::Adadelta{.weight_decay = 0.1},
          lab::Adamax{.weight_decay = 0.1},
          lab::NAdam{.weight_decay = 0.1},
          lab::RAdam{.weight_decay = 0.1, .decoupled = true},
          lab::OwnOptimizer{.name = "signs", .state = {"last"}, .update = [](lab::OptimizerStep& step) {
                              step.parameters.sub_((step.gradients.sign() + step.state[0]).mul_(step.rate));
                              step.state[0].copy_(step.gradients);
                            }}};
}

// As zero1 and groups cut parameters: at multiples of 64 bytes.
TEST(Optimizer, GivesTheSameBitsInOneStretchAndInMany) {
  torch::manual_seed(1);
  const at::Tensor begin = torch::randn({1000}), gradient = torch::randn({1000});
  for (const lab::OptimizerPlan& plan : all_optimizers()) {
    at::Tensor one = begin.clone(), many = begin.clone();
    const auto whole = lab::make_optimizer(plan, one);
    const auto cut = lab::make_optimizer({plan, plan}, {{16, 0}, {208, 1}, {48, 0}, {728, 1}}, many);
    for (int i = 1; i < 8; ++i) {
      at::Tensor first = gradient * i, second = first.clone();
      whole->step(one, first, {}, {}, {lab::base_rate(plan)});
      cut->step(many, second, {}, {}, {lab::base_rate(plan), lab::base_rate(plan)});
    }
    EXPECT_TRUE(one.equal(many)) << whole->name();
    EXPECT_FALSE(one.equal(begin)) << whole->name();
    EXPECT_EQ(whole->steps(), 7) << whole->name();
  }
}

TEST(Optimizer, KeepsTheStateThatItNames) {
  for (const lab::OptimizerPlan& plan : all_optimizers()) {
    const auto optimizer = lab::make_optimizer(plan, torch::ones({16}));
    std::vector<std::string> names;
    for (const auto& [name, state] : optimizer->flat_state()) names.push_back(name);
    EXPECT_EQ(names, lab::state_names(plan));
    EXPECT_EQ(optimizer->name(), lab::name_of(plan));
  }
  EXPECT_THROW(lab::make_optimizer(lab::OwnOptimizer{.name = "nothing"}, torch::ones({16})),
               lab::ConfigError);
}

TEST(Optimizer, ChangesNothingWhenItIsToSkip) {
  for (const lab::OptimizerPlan& plan : all_optimizers()) {
    at::Tensor values = torch::ones({1000});
    const auto optimizer = lab::make_optimizer(plan, values);
    const auto step = [&](double gradient, float skip) {
      at::Tensor gradients = torch::full({1000}, gradient);
      optimizer->step(values, gradients, {}, torch::full({}, skip), {lab::base_rate(plan)});
    };
    step(1, 0);
    std::vector<at::Tensor> before = {values.clone()};
    for (const auto& [name, state] : optimizer->flat_state()) before.push_back(state.clone());
    step(NAN, 1);
    std::vector<at::Tensor> after = {values};
    for (const auto& [name, state] : optimizer->flat_state()) after.push_back(state);
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_TRUE(before[i].equal(after[i])) << optimizer->name() << ", tensor " << i;
    step(1, 0);
    EXPECT_FALSE(before[0].equal(values)) << optimizer->name();
  }
}

lab::EpochReport report(double value) { return {0, 1, {{"loss/validate", value}}, 0}; }

TEST(EarlyStopping, StopsAfterPatienceEpochsWithoutImprovement) {
  const auto callback = lab::early_stopping({.monitor = "loss/validate", .patience = 2, .min_delta = 0.1});
  EXPECT_FALSE(callback->epoch_finished(report(1.0)).stop);
  EXPECT_FALSE(callback->epoch_finished(report(0.95)).stop);  // less than min_delta
  const auto resumed = lab::early_stopping({.monitor = "loss/validate", .patience = 2, .min_delta = 0.1});
  resumed->restore(callback->state());
  EXPECT_TRUE(callback->epoch_finished(report(NAN)).stop);
  EXPECT_FALSE(resumed->epoch_finished(report(0.5)).stop);
  EXPECT_FALSE(resumed->epoch_finished(report(0.5)).stop);
  EXPECT_TRUE(resumed->epoch_finished(report(0.5)).stop);
}

TEST(EarlyStopping, NamesWhatIsMeasuredWhenItsMonitorIsNot) {
  try {
    lab::early_stopping({.monitor = "loss/val"})
        ->fit_started({.tags = {"loss/train_epoch", "loss/validate"}});
    FAIL();
  } catch (const lab::ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("loss/validate"), std::string::npos);
  }
}

}  // namespace
