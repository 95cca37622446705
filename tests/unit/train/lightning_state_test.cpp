#include "train/lightning_state.h"

#include <gtest/gtest.h>

#include <cstring>

#include "lab/core/error.h"

namespace lab {
namespace {

using detail::lightning_state;

// Two steps of a linear layer, in two epochs; written by Python.
const std::string checkpoint = "tests/fuzz/corpus/torch_file/lightning.ckpt";

TensorView parameter(const std::string& name, std::vector<int64_t> shape) {
  return {.name = name, .type = DType::f32, .shape = std::move(shape), .data = nullptr};
}

std::string refusal(const std::vector<TensorView>& parameters) {
  const TorchFile file(checkpoint);
  try {
    lightning_state(file, parameters);
  } catch (const DataError& e) {
    return e.what();
  }
  return "";
}

TEST(LightningState, TellsWhereTheRunWasAndWhatItsOptimizerHad) {
  const TorchFile file(checkpoint);
  const auto state = lightning_state(file, {parameter("weight", {1, 2}), parameter("bias", {1})});
  EXPECT_EQ(state.epochs, 2);
  EXPECT_EQ(state.steps, 2);
  EXPECT_EQ(state.optimizer, "AdamW");
  EXPECT_EQ(state.optimizer_steps, 1);  // as the file says
  EXPECT_EQ(state.rate, 1e-3);
  EXPECT_TRUE(state.left_out.empty());  // MultiStepLR is a function of the epoch
  std::vector<std::string> names;
  for (const TensorView& tensor : state.tensors) names.push_back(tensor.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"lab.optimizer.exp_avg.weight", "lab.optimizer.exp_avg_sq.weight",
                                      "lab.optimizer.exp_avg.bias", "lab.optimizer.exp_avg_sq.bias"}));
  const TorchValue& saved = *file.root().find("optimizer_states")->items()[0]->find("state");
  const TensorView& first = saved.items()[1]->find("exp_avg")->tensor();
  EXPECT_EQ(state.tensors[0].shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(std::memcmp(state.tensors[0].data, first.data, 8), 0);
}

TEST(LightningState, RefusesOtherParameters) {
  EXPECT_EQ(refusal({parameter("weight", {1, 2}), parameter("bias", {1})}), "");
  EXPECT_NE(refusal({parameter("weight", {1, 2})}).find("2 parameters, this model has 1"), std::string::npos);
  EXPECT_NE(refusal({parameter("bias", {1}), parameter("weight", {1, 2})}).find("another shape"),
            std::string::npos);
}

}  // namespace
}  // namespace lab
