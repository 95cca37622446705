#include "train/lightning_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "lab/core/error.h"

namespace lab {
namespace {

using detail::lightning_state;

// One epoch of two steps, as three versions of Lightning saved it (tests/fuzz/torch_file_corpus.py).
class OfLightning : public testing::TestWithParam<std::string> {
 protected:
  const TorchFile file_{"tests/fuzz/corpus/torch_file/lightning-" + GetParam() + ".ckpt"};
};

TensorView parameter(const std::string& name, std::vector<int64_t> shape) {
  return {.name = name, .type = DType::f32, .shape = std::move(shape), .data = nullptr};
}

std::vector<TensorView> parameters() {
  return {parameter("0.weight", {3, 5}), parameter("0.bias", {3}),      parameter("1.weight", {3}),
          parameter("1.bias", {3}),      parameter("2.weight", {1, 3}), parameter("2.bias", {1})};
}

TEST_P(OfLightning, TellsWhereTheRunWasAndWhatItsOptimizerHad) {
  const auto state = lightning_state(file_, parameters());
  EXPECT_EQ(state.epochs, 1);
  EXPECT_EQ(state.steps, 2);
  EXPECT_EQ(state.optimizer, "AdamW");
  EXPECT_EQ(state.optimizer_steps, 2);
  ASSERT_EQ(state.tensors.size(), 12u);
  EXPECT_EQ(state.tensors[0].name, "lab.optimizer.exp_avg.0.weight");
  EXPECT_EQ(state.tensors[1].name, "lab.optimizer.exp_avg_sq.0.weight");
  EXPECT_EQ(state.tensors[11].name, "lab.optimizer.exp_avg_sq.2.bias");
  const TorchValue& saved = *file_.root().find("optimizer_states")->items()[0]->find("state");
  const TensorView& first = saved.items()[1]->find("exp_avg")->tensor();
  EXPECT_EQ(state.tensors[0].shape, (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(std::memcmp(state.tensors[0].data, first.data, 60), 0);
}

TEST_P(OfLightning, OtherParametersAreRefused) {
  const auto refusal = [this](const std::vector<TensorView>& of_model) -> std::string {
    try {
      lightning_state(file_, of_model);
    } catch (const DataError& e) {
      return e.what();
    }
    return "";
  };
  auto fewer = parameters(), other = parameters();
  fewer.pop_back();
  std::swap(other[0], other[1]);
  EXPECT_EQ(refusal(parameters()), "");
  EXPECT_NE(refusal(fewer).find("6 parameters, this model has 5"), std::string::npos);
  EXPECT_NE(refusal(other).find("another shape"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Versions, OfLightning, testing::Values("1.9.5", "2.0.9", "2.6.6"),
                         [](const auto& version) {
                           std::string name = version.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace lab
