// Groups of parameters in whole runs: on any ranks, and gone on with.

#include <torch/nn.h>

#include "apart.h"
#include "fitting.h"

namespace lab {
namespace {

TrainPlan plan(std::vector<ParameterGroup> groups, const OptimizerPlan& optimizer = AdamW{.lr = 0.05},
               std::shared_ptr<Heard> heard = std::make_shared<Heard>()) {
  torch::manual_seed(3);
  torch::nn::Sequential net(torch::nn::Linear(number_features, 8), torch::nn::BatchNorm1d(8),
                            torch::nn::ReLU(),
                            torch::nn::Linear(8, 1500),  // so that parts of ranks end within
                            torch::nn::ReLU(), torch::nn::Linear(1500, 3));
  return {.model = {net, "x"},
          .loss = cross_entropy(),
          .optimizer = optimizer,
          .groups = std::move(groups),
          .schedule = warmup_cosine(),
          .train = {.shuffle = true},
          .batch_size = 16,
          .callbacks = {std::move(heard)}};
}

std::vector<ParameterGroup> groups() {
  return {{.name = "head", .patterns = {"5"}, .lr = 0.01, .weight_decay = 0.1}, without_decay()};
}

class GroupRuns : public Fitting {
 protected:
  GroupRuns() { options_.numerics = "canonical"; }
};

TEST_F(GroupRuns, HaveTheSameBitsOnAnyRanksAndGoOn) {
  Apart apart(test_group());
  const auto self = self_communicator();
  int tried = 0;
  for (const OptimizerPlan& optimizer :
       {OptimizerPlan(AdamW{.lr = 0.05}), OptimizerPlan(SGD{.lr = 0.1, .momentum = 0.9})}) {
    const std::string alone = text("alone", ++tried), from = "epoch=1-step=6.safetensors";
    const auto fitted = [&](const std::string& name, Communicator& group, const char* strategy,
                            const std::string& checkpoint = "") {
      options_.strategy = strategy;
      group_ = &group;
      fit(text(name, tried), plan(groups(), optimizer), checkpoint, alone);
      return last(text(name, tried));
    };
    const std::string expected = fitted("alone", *self, "ddp");
    const auto expect = [&](const std::string& found, const char* way) {
      EXPECT_TRUE(test_group().rank() != 0 || found == expected) << way << ", " << tried;
    };
    expect(fitted("shared", test_group(), "ddp"), "shared");
    expect(fitted("copies", apart, "ddp"), "copies");
    expect(fitted("parts", apart, "zero1"), "parts");
    expect(fitted("on_shared", test_group(), "ddp", from), "going on, shared");
    expect(fitted("on_parts", apart, "zero1", from), "going on, parts");
  }
}

TEST_F(GroupRuns, OfTheSameValuesHaveTheBitsOfOneGroup) {
  fit("one", plan({}));
  fit("two", plan({{.name = "biases", .patterns = {"*.bias"}}, {.name = "norm", .patterns = {"1"}}}));
  if (group_->rank() != 0) return;
  const auto checksums = [&](const char* name) {
    return SafetensorsFile(temporary_ / name + "/last.safetensors").metadata().at("lab.checksums");
  };
  EXPECT_EQ(checksums("one"), checksums("two"));
}

TEST_F(GroupRuns, TellTheirRates) {
  const auto heard = std::make_shared<Heard>();
  fit("run", plan(groups(), AdamW{.lr = 0.05}, heard));
  ASSERT_EQ(heard->epochs.size(), 3u);
  for (const EpochReport& epoch : heard->epochs) {
    const double rate = heard->steps[static_cast<size_t>(epoch.step - 1)].rate;
    EXPECT_EQ(value_of(epoch.values, "lr/rest"), rate);
    EXPECT_EQ(value_of(epoch.values, "lr/no_decay"), rate);
    EXPECT_DOUBLE_EQ(*value_of(epoch.values, "lr/head"), rate / 5);
  }
  const auto alone = std::make_shared<Heard>();
  fit("alone", plan({}, AdamW{}, alone));
  EXPECT_FALSE(value_of(alone->epochs.front().values, "lr/rest"));
}

}  // namespace
}  // namespace lab
