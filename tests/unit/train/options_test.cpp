#include "lab/train/options.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "lab/core/error.h"
#include "lab/train/model_summary.h"
#include "lab/train/plan.h"

namespace {

using lab::BatchLimit;
using lab::limited_samples;

TEST(TrainerOptions, ALimitIsSoManyBatchesOrAShareOfThem) {
  // 1,000 samples in batches of 128: 8, the last of 104.
  const auto left = [](BatchLimit limit) { return limited_samples(limit, 1000, 128, "limit_train_batches"); };
  EXPECT_EQ(left(1.0), 1000);
  EXPECT_EQ(left(int64_t{1}), 128);
  EXPECT_EQ(left(int64_t{8}), 1000);
  EXPECT_EQ(left(int64_t{99}), 1000);
  EXPECT_EQ(left(int64_t{0}), 0);
  EXPECT_EQ(left(0.0), 0);
  EXPECT_EQ(left(0.5), 512);
  EXPECT_EQ(left(0.4), 384);  // 3.2 of 8
  EXPECT_EQ(left(0.125), 128);
  EXPECT_EQ(limited_samples(BatchLimit(0.5), 0, 128, "limit_val_batches"), 0);
  EXPECT_EQ(left(INT64_MAX), 1000);
  try {
    left(0.1);
    FAIL() << "a share of less than a batch";
  } catch (const lab::ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("limit_train_batches = 0.1 of 8 batches"), std::string::npos)
        << e.what();
  }
}

TEST(TrainerOptions, DurationsAreDaysHoursMinutesSeconds) {
  EXPECT_EQ(lab::seconds_of("00:00:00:01"), 1);
  EXPECT_EQ(lab::seconds_of("1:2:3:4"), ((24 + 2) * 60 + 3) * 60 + 4);
  EXPECT_EQ(lab::seconds_of("00:36:00:00"), 36 * 3600);
  for (const char* wrong : {"", "1", "1:2:3", "1:2:3:4:5", "a:b:c:d", "-1:0:0:0", "1:2:3:4x"})
    EXPECT_EQ(lab::seconds_of(wrong), -1) << wrong;
}

TEST(TrainerOptions, AFastDevRunIsOneEpochOfAFewBatches) {
  lab::TrainerOptions options;
  EXPECT_EQ(lab::with_fast_dev_run(options).max_epochs, -1);
  options.fast_dev_run = true;
  lab::TrainerOptions quick = lab::with_fast_dev_run(options);
  EXPECT_EQ(quick.max_epochs, 1);
  EXPECT_EQ(quick.max_steps, 1);
  EXPECT_FALSE(quick.enable_checkpointing);
  EXPECT_EQ(quick.limit_val_batches, BatchLimit(int64_t{1}));
  EXPECT_EQ(quick.limit_test_batches, BatchLimit(int64_t{1}));
  options.fast_dev_run = int64_t{7};
  quick = lab::with_fast_dev_run(options);
  EXPECT_EQ(quick.max_steps, 7);
  EXPECT_EQ(quick.limit_train_batches, BatchLimit(int64_t{7}));
}

// What the module sees, and what losses see.
struct SeesImpl : torch::nn::Module {
  SeesImpl() : layer(register_module("layer", torch::nn::Linear(4, 3))) {}
  at::Tensor forward(const at::Tensor& x) {
    in = x.scalar_type();
    const at::Tensor y = layer(x);
    out = y.scalar_type();
    return y;
  }
  torch::nn::Linear layer;
  at::ScalarType in = at::kFloat, out = at::kFloat;
};
TORCH_MODULE(Sees);

TEST(TrainerOptions, PrecisionIsOfParametersAndOfWhatLayersCompute) {
  struct Case {
    const char* precision;
    at::ScalarType parameters, in, out, told;
  };
  for (const auto& [precision, parameters, in, out, told] :
       {Case{"32-true", at::kFloat, at::kFloat, at::kFloat, at::kFloat},
        Case{"64-true", at::kDouble, at::kDouble, at::kDouble, at::kDouble},
        Case{"bf16-mixed", at::kFloat, at::kFloat, at::kBFloat16, at::kFloat},
        Case{"bf16-true", at::kBFloat16, at::kBFloat16, at::kBFloat16, at::kFloat}}) {
    Sees sees;
    lab::Model model(sees, "x");
    lab::TrainerOptions options;
    options.precision = precision;
    lab::set_precision(model, options);
    EXPECT_EQ(sees->layer->weight.scalar_type(), parameters) << precision;
    lab::Batch batch;
    batch.parts.add("x", torch::ones({2, 4}, options.dtype() == lab::DType::f64 ? at::kDouble : at::kFloat));
    batch.ids = {0, 1};
    const at::Tensor result = model.forward(batch).only();
    EXPECT_EQ(sees->in, in) << precision;
    EXPECT_EQ(sees->out, out) << precision;
    EXPECT_EQ(result.scalar_type(), told) << precision;
    result.sum().backward();
    EXPECT_EQ(sees->layer->weight.grad().scalar_type(), parameters) << precision;
    EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  }
}

TEST(ModelSummary, NamesLayersShapesAndTotals) {
  torch::nn::Sequential net(torch::nn::Conv2d(1, 32, 3), torch::nn::BatchNorm2d(32),
                            torch::nn::Linear(800, 10));
  for (auto& parameter : net[1]->parameters()) parameter.set_requires_grad(false);
  const auto lines = lab::model_summary(*net);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "layer  kind         shapes        parameters");
  EXPECT_EQ(lines[1], "0      Conv2d       32x1x3x3 32          320");
  EXPECT_EQ(lines[2], "1      BatchNorm2d  32 32 frozen          64");
  EXPECT_EQ(lines[3], "2      Linear       10x800 10          8,010");
  EXPECT_EQ(lines[4], "8,394 parameters, 8,330 of them trained, 0.03 MiB");
  torch::nn::Sequential long_names;
  long_names->push_back(std::string(100, 'x'), torch::nn::Linear(1000, 1000));
  for (const auto& line : lab::model_summary(*long_names)) EXPECT_LE(line.size(), 78u) << line;
}

}  // namespace
