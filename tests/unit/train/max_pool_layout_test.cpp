#include "train/max_pool_layout.h"

#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/nn.h>

namespace {

struct Pooled {
  at::Tensor gradient;  // of the input
  int copies = 0;       // that the backward made
};

Pooled backward_through(const torch::nn::MaxPool2dOptions& options, at::MemoryFormat format) {
  torch::manual_seed(1);
  const at::Tensor input = torch::randn({4, 8, 12, 10}).contiguous(format).requires_grad_();
  const at::Tensor output = torch::nn::MaxPool2d(options)(input).flatten(1);
  static int copies;
  copies = 0;
  const auto handle =
      at::addGlobalCallback(at::RecordFunctionCallback([](const at::RecordFunction& function)
                                                           -> std::unique_ptr<at::ObserverContext> {
                              copies += std::string(function.name()) == "aten::copy_";
                              return nullptr;
                            }).scopes({at::RecordScope::FUNCTION}));
  output.backward(torch::randn(output.sizes()));
  at::removeCallback(handle);
  return {input.grad(), copies};
}

TEST(MaxPoolLayout, ValuesAreTheSameAndFewerAreCopied) {
  const std::vector<torch::nn::MaxPool2dOptions> all = {
      torch::nn::MaxPool2dOptions(2), torch::nn::MaxPool2dOptions(3).stride(3).padding(1),
      torch::nn::MaxPool2dOptions(2).stride(4).ceil_mode(true)};
  std::vector<Pooled> before;
  for (const auto& options : all)
    for (const auto format : {at::MemoryFormat::ChannelsLast, at::MemoryFormat::Contiguous})
      before.push_back(backward_through(options, format));
  testing::internal::CaptureStderr();
  lab::detail::keep_layout_in_max_pool_backward();
  lab::detail::keep_layout_in_max_pool_backward();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "torch warns that a function is replaced";
  size_t i = 0;
  for (const auto& options : all)
    for (const auto format : {at::MemoryFormat::ChannelsLast, at::MemoryFormat::Contiguous}) {
      const Pooled after = backward_through(options, format);
      EXPECT_TRUE(torch::equal(after.gradient, before[i].gradient));
      EXPECT_TRUE(after.gradient.is_contiguous(format));
      if (format == at::MemoryFormat::ChannelsLast)
        EXPECT_LT(after.copies, before[i].copies);
      else
        EXPECT_EQ(after.copies, before[i].copies);
      ++i;
    }
}

}  // namespace
