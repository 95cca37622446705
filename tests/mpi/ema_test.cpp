// The weights' average in whole runs: on any ranks, gone on with, and validated.

#include "lab/train/ema.h"

#include <torch/nn.h>

#include "apart.h"
#include "fitting.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

torch::nn::Sequential net() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(number_features, 8), torch::nn::Tanh(),
                               torch::nn::Linear(8, 1500),  // so that ranks have parts
                               torch::nn::Tanh(), torch::nn::Linear(1500, 3));
}

TrainPlan plan(const std::optional<Ema>& ema, std::shared_ptr<Heard> heard = std::make_shared<Heard>()) {
  return {.model = {net(), "x"},
          .loss = cross_entropy(),
          .optimizer = AdamW{.lr = 0.02},
          .ema = ema,
          .train = {.shuffle = true},
          .batch_size = 16,
          .monitor = "loss/validate",
          .callbacks = {std::move(heard)}};
}

at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView* view = file.find(name);
  if (!view) throw std::out_of_range(name);
  return torch::from_blob(const_cast<void*>(view->data), view->shape, scalar_type(view->type)).clone();
}

class EmaRuns : public Fitting {
 protected:
  EmaRuns() { options_.numerics = "canonical"; }

  SafetensorsFile checkpoint(const std::string& name, int64_t step) const {
    const std::string file = text("/epoch=", (step - 1) / 4, "-step=", step, ".safetensors");
    return SafetensorsFile(temporary_ / name + file);
  }
};

TEST_F(EmaRuns, HaveTheSameBitsOnAnyRanksAndGoOn) {
  Apart apart(test_group());
  const auto self = self_communicator();
  const Ema ema{.decay = 0.8, .warmup = true, .validate = true};
  const auto fitted = [&](const std::string& name, Communicator& group, const char* strategy,
                          const std::string& from = "") {
    options_.strategy = strategy;
    group_ = &group;
    fit(name, plan(ema), from, "alone");
    return last(name);
  };
  const std::string expected = fitted("alone", *self, "ddp");
  const auto expect = [&](const std::string& found, const char* way) {
    EXPECT_TRUE(test_group().rank() != 0 || found == expected) << way;
  };
  expect(fitted("shared", test_group(), "ddp"), "shared");
  expect(fitted("copies", apart, "ddp"), "copies");
  expect(fitted("parts", apart, "zero1"), "parts");
  for (const char* from : {"epoch=1-step=6.safetensors", "epoch=1-step=8.safetensors"}) {
    expect(fitted(text("on_shared", from), test_group(), "ddp", from), "going on, shared");
    expect(fitted(text("on_parts", from), apart, "zero1", from), "going on, parts");
  }
}

TEST_F(EmaRuns, KeepTheAverageOfTheWeightsOfAllSteps) {
  const Ema ema{.decay = 0.8};
  fit("run", plan(ema));
  if (group_->rank() != 0) return;
  at::Tensor expected;
  for (int64_t step = 1; step <= 12; ++step) {
    const SafetensorsFile file = checkpoint("run", step);
    const at::Tensor weight = tensor_of(file, "2.weight");
    expected = step == 1 ? weight : expected * 0.8 + weight * 0.2;
    EXPECT_LT((tensor_of(file, "lab.ema.2.weight") - expected).abs().max().item<double>(), 1e-6) << step;
  }
  EXPECT_GT((expected - tensor_of(checkpoint("run", 12), "2.weight")).abs().max().item<double>(), 1e-3);
}

// A model that has the average for its weights is validated before its first step.
TEST_F(EmaRuns, AreValidatedWithTheAverageWhereTheyAreToBe) {
  const auto with = std::make_shared<Heard>(), without = std::make_shared<Heard>(),
             alone = std::make_shared<Heard>();
  fit("with", plan(Ema{.decay = 0.8, .validate = true}, with));
  fit("without", plan(Ema{.decay = 0.8}, without));
  const auto loss = [](const EpochReport& report) {
    return value_of(report.values, "loss/validate").value();
  };
  EXPECT_EQ(loss(with->first), loss(without->first));
  EXPECT_NE(loss(with->epochs.back()), loss(without->epochs.back()));
  EXPECT_EQ(value_of(with->epochs.back().values, "loss/train_epoch"),
            value_of(without->epochs.back().values, "loss/train_epoch"));
  TrainPlan averaged = plan({}, alone);
  if (group_->rank() == 0) {  // who gives his weights to all
    const torch::NoGradGuard no_grad;
    const SafetensorsFile file = checkpoint("with", 12), other = checkpoint("without", 12);
    EXPECT_EQ(file.metadata().at("lab.checksums"), other.metadata().at("lab.checksums"));
    for (const auto& [name, tensor] : model_tensors(averaged.model.module()))
      at::Tensor(tensor).copy_(tensor_of(file, "lab.ema." + name));
  }
  options_.max_epochs = 0;
  fit("averaged", std::move(averaged));
  EXPECT_EQ(loss(alone->first), loss(with->epochs.back()));
}

TEST_F(EmaRuns, BeginWithTheWeightsWhereACheckpointHasNoAverage) {
  fit("before", plan({}));
  fit("after", plan(Ema{.decay = 0.8}), "epoch=1-step=6.safetensors", "before");
  if (group_->rank() != 0) return;
  const at::Tensor before = tensor_of(checkpoint("before", 6), "2.weight");
  const SafetensorsFile file = checkpoint("after", 7);
  const at::Tensor expected = before * 0.8 + tensor_of(file, "2.weight") * 0.2;
  EXPECT_LT((tensor_of(file, "lab.ema.2.weight") - expected).abs().max().item<double>(), 1e-6);
}

}  // namespace
}  // namespace lab
