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

TEST(MaxPoolLayout, ValuesAreTheSameAndOneTensorIsCopied) {
  testing::internal::CaptureStderr();
  lab::detail::keep_layout_in_max_pool_backward();
  lab::detail::keep_layout_in_max_pool_backward();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "torch warns that a function is replaced";
  using Options = torch::nn::MaxPool2dOptions;
  for (const auto& options : {Options(2), Options(3).stride(2).padding(1),
                              Options(2).stride(4).ceil_mode(true), Options(2).stride(1).dilation(3)}) {
    const Pooled plain = backward_through(options, at::MemoryFormat::Contiguous);
    const Pooled last = backward_through(options, at::MemoryFormat::ChannelsLast);
    EXPECT_TRUE(torch::equal(last.gradient, plain.gradient));
    EXPECT_TRUE(last.gradient.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_EQ(plain.copies, 0);
    EXPECT_EQ(last.copies, 1);
  }
}

}  // namespace
