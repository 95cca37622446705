// The stand-in for torch's devices against the CPU, and what it finds.

#include <ATen/ops/_fused_adamw.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/torch.h>

#include "torch_stand_in/stand_in.h"

namespace torch_stand_in {
namespace {

const at::Device here(at::kPrivateUse1, 0);

void seed(at::Device device, uint64_t key) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  generator.set_current_seed(key);
}

struct Net : torch::nn::Module {
  Net() {
    convolution = register_module("convolution", torch::nn::Conv2d(torch::nn::Conv2dOptions(3, 8, 3)));
    norm = register_module("norm", torch::nn::BatchNorm2d(8));
    dropout = register_module("dropout", torch::nn::Dropout(0.3));
    linear = register_module("linear", torch::nn::Linear(8, 5));
  }
  at::Tensor forward(const at::Tensor& x) {
    const auto y = torch::relu(norm(convolution(x))).mean({2, 3});
    return linear(dropout(torch::gelu(y)));
  }
  torch::nn::Conv2d convolution{nullptr};
  torch::nn::BatchNorm2d norm{nullptr};
  torch::nn::Dropout dropout{nullptr};
  torch::nn::Linear linear{nullptr};
};

class Hook final : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit Hook(std::function<void()> made) : made_(std::move(made)) {}
  void operator()(const torch::autograd::Variable&) override { made_(); }

 private:
  std::function<void()> made_;
};

// One flat tensor of the parameters, in which the module's own lie; hooks add their gradients to another.
struct Flat {
  explicit Flat(torch::nn::Module& module) {
    const torch::NoGradGuard no_grad;
    int64_t size = 0;
    for (const auto& parameter : module.parameters()) size += parameter.numel();
    values = torch::zeros({size}, module.parameters()[0].options().requires_grad(false));
    gradients = torch::zeros_like(values);
    int64_t at = 0;
    for (auto& parameter : module.parameters()) {
      const at::Tensor place = values.narrow(0, at, parameter.numel()).view(parameter.sizes());
      const at::Tensor sum = gradients.narrow(0, at, parameter.numel()).view(parameter.sizes());
      place.copy_(parameter);
      parameter.set_data(place);
      torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>([parameter, sum] {
                                                       const torch::NoGradGuard none;
                                                       sum.copy_(parameter.grad());
                                                       parameter.mutable_grad().reset();
                                                     }));
      at += parameter.numel();
    }
  }
  at::Tensor values, gradients;
};

// What some steps make of the parameters, and then of the running means.
std::vector<at::Tensor> trained(at::Device device, bool channels_last) {
  torch::manual_seed(1);
  Net net;
  const auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const at::Tensor x = torch::randn({16, 3, 9, 9}).contiguous(format).to(device);
  const at::Tensor y = torch::randint(5, {16}).to(device);
  net.to(device);
  Flat flat(net);
  const auto zeros = [&] { return torch::zeros_like(flat.values); };
  at::Tensor mean = zeros(), square = zeros(), steps = torch::zeros({}, flat.values.options());
  const at::Tensor skip = torch::zeros({}, flat.values.options());
  for (uint64_t step = 0; step < 4; ++step) {
    seed(device, step);
    torch::nn::functional::cross_entropy(net.forward(x), y).backward();
    const torch::NoGradGuard no_grad;
    steps.add_(1);
    at::_fused_adamw_({flat.values}, {flat.gradients}, {mean}, {square}, {}, {steps}, 1e-2, 0.9, 0.99, 1e-2,
                      1e-8, false, false, {}, skip);
  }
  return {flat.values.cpu(), net.norm->running_mean.cpu(), net.norm->num_batches_tracked.cpu()};
}

struct Waits {
  int64_t now(Wait kind) const { return count(kind) - before[static_cast<size_t>(kind)]; }
  std::array<int64_t, 6> before = {count(Wait::item),        count(Wait::to_device), count(Wait::to_host),
                                   count(Wait::synchronize), count(Wait::result),    count(Wait::event)};
};

at::Tensor pinned(at::IntArrayRef sizes) {
  return torch::ones(sizes, at::TensorOptions().pinned_memory(true));
}

c10::impl::VirtualGuardImpl guard() { return c10::impl::VirtualGuardImpl(at::kPrivateUse1); }

TEST(TorchStandIn, TrainsToTheBitsOfTheCpu) {
  for (const bool channels_last : {false, true}) {
    const auto expected = trained(at::kCPU, channels_last), actual = trained(here, channels_last);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(torch::equal(expected[i], actual[i])) << i;
    EXPECT_TRUE(expected[0].isfinite().all().item<bool>());
  }
}

TEST(TorchStandIn, TrainsWithoutAWait) {
  torch::manual_seed(1);
  Net net;
  net.to(here);
  Flat flat(net);
  const at::Tensor x = torch::ones({4, 3, 9, 9}, here),
                   y = torch::zeros({4}, at::TensorOptions(here).dtype(at::kLong));
  const Waits waits;
  torch::nn::functional::cross_entropy(net.forward(x), y).backward();
  for (const Wait kind : {Wait::item, Wait::to_device, Wait::to_host, Wait::synchronize, Wait::result})
    EXPECT_EQ(waits.now(kind), 0);
}

TEST(TorchStandIn, ConvolutionsKeepChannelsLast) {
  const at::Tensor x = torch::ones({2, 3, 5, 5}).contiguous(at::MemoryFormat::ChannelsLast).to(here);
  EXPECT_TRUE(x.is_contiguous(at::MemoryFormat::ChannelsLast));
  const at::Tensor y = torch::conv2d(x, torch::ones({4, 3, 3, 3}, here));
  EXPECT_TRUE(y.is_privateuseone());
  EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(TorchStandIn, ViewsSeeTheSameMemory) {
  const at::Tensor all = torch::zeros({4, 6}, here);
  all.view({2, 12})[1].narrow(0, 3, 2).fill_(7);
  all.t().unfold(0, 2, 2).select(2, 1).add_(1);
  at::Tensor expected = torch::zeros({4, 6});
  expected.view({2, 12})[1].narrow(0, 3, 2).fill_(7);
  expected.t().unfold(0, 2, 2).select(2, 1).add_(1);
  EXPECT_TRUE(torch::equal(all.cpu(), expected));
  at::Tensor grown = torch::empty({0}, here);
  at::add_out(grown, all, all);
  EXPECT_TRUE(torch::equal(grown.cpu(), expected + expected));
  grown.resize_({8, 6});
  EXPECT_TRUE(torch::equal(grown.narrow(0, 0, 4).cpu(), expected + expected));
}

TEST(TorchStandIn, CountsWhatTheHostWaitsFor) {
  const at::Tensor x = torch::ones({3}, here);
  const Waits waits;
  EXPECT_EQ(x.sum().item<double>(), 3);
  EXPECT_EQ(waits.now(Wait::item), 1);
  x.copy_(torch::zeros({3}));
  x.copy_(torch::zeros({3}), /*non_blocking=*/true);
  EXPECT_EQ(waits.now(Wait::to_device), 2);
  x.cpu();
  torch::zeros({3}).copy_(x, /*non_blocking=*/true);
  EXPECT_EQ(waits.now(Wait::to_host), 2);
  x.nonzero();
  x.index({x > 0});
  EXPECT_EQ(waits.now(Wait::result), 2);
  guard().synchronizeDevice(0);
  EXPECT_EQ(waits.now(Wait::synchronize), 1);
  pinned({3}).copy_(x.to(at::kDouble), /*non_blocking=*/true);  // torch converts on the host
  EXPECT_EQ(waits.now(Wait::to_host), 3);
}

TEST(TorchStandIn, CopiesOfPinnedMemoryAreWaitedForByAnEvent) {
  const at::Tensor x = torch::empty({3}, here), back = pinned({3});
  const Waits waits;
  x.copy_(pinned({3}), /*non_blocking=*/true);
  back.copy_(x, /*non_blocking=*/true);
  EXPECT_TRUE(back.isnan().all().item<bool>());
  c10::Event copied(at::kPrivateUse1);
  copied.record(guard().getStream(here));
  copied.synchronize();
  EXPECT_TRUE(torch::equal(back, torch::ones({3})));
  for (const Wait kind : {Wait::item, Wait::to_device, Wait::to_host, Wait::synchronize, Wait::result})
    EXPECT_EQ(waits.now(kind), 0);
  EXPECT_EQ(waits.now(Wait::event), 1);
}

TEST(TorchStandIn, HostAndDeviceDoNotMix) {
  const at::Tensor x = torch::ones({3}, here);
  EXPECT_THROW(x + torch::ones({3}), c10::Error);
  EXPECT_THROW(torch::ones({3}).add_(x), c10::Error);
  EXPECT_THROW(x + torch::ones({3}, at::Device(at::kPrivateUse1, 1)), c10::Error);
  EXPECT_EQ((x + torch::tensor(2.0)).sum().item<double>(), 9);
}

TEST(TorchStandIn, ForeignMemoryStaysTheHosts) {
  std::array<float, 3> memory = {1, 2, 3};
  const at::Device third(at::kPrivateUse1, 3);
  const at::Tensor own = torch::ones({3}, third);
  const at::Tensor x = torch::from_blob(
      memory.data(), {3}, [](void*) {}, own.options());
  x.mul_(own + own);
  EXPECT_EQ(x.device(), third);
  EXPECT_EQ(memory[2], 6);
}

TEST(TorchStandInDeathTest, TheHostTouchesDeviceMemory) {
  const at::Tensor x = torch::ones({3}, here);
  EXPECT_DEATH(static_cast<volatile float*>(x.data_ptr<float>())[1] = 1, "the host touched device memory");
}

TEST(TorchStandInDeathTest, StreamsWaitForEachOther) {
  const c10::Stream own = guard().getStreamFromGlobalPool(here);
  const auto upload = [&] {
    const c10::StreamGuard on_own(own);
    return pinned({3}).to(here, /*non_blocking=*/true);
  };
  const auto wait = [&] {
    c10::Event copied(at::kPrivateUse1);
    copied.record(own);
    copied.block(guard().getStream(here));
  };
  EXPECT_DEATH(upload().add_(1), "has not waited for the stream that wrote it");
  EXPECT_DEATH(
      {
        at::Tensor x = upload();
        wait();
        x.add_(1);
        x.reset();
      },
      "record_stream\\(\\) is missing");
  at::Tensor x = upload();
  wait();
  x.record_stream(guard().getStream(here));
  x.add_(1);
}

}  // namespace
}  // namespace torch_stand_in
