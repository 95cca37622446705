#include "lab/train/flat.h"

#include <gtest/gtest.h>
#include <torch/nn.h>

#include "lab/core/error.h"
#include "lab/train/plan.h"

namespace lab {
namespace {

// A layer of each of these types, each with a weight of three numbers and a bias of one.
torch::nn::Sequential net_of(const std::vector<at::ScalarType>& types) {
  torch::manual_seed(1);
  torch::nn::Sequential net;
  for (const at::ScalarType type : types) {
    torch::nn::Linear layer(3, 1);
    layer->to(type);
    net->push_back(layer);
  }
  return net;
}

bool lies_in(const at::Tensor& tensor, const at::Tensor& flat) {
  const auto* first = static_cast<const std::byte*>(flat.const_data_ptr());
  const auto* at = static_cast<const std::byte*>(tensor.const_data_ptr());
  return at >= first && at < first + flat.nbytes();
}

TEST(FlatParameters, HaveTheLeastTypeOf32OrMoreBitsThatHoldsAll) {
  const auto f16 = torch::kFloat16, bf16 = torch::kBFloat16, f32 = torch::kFloat32, f64 = torch::kFloat64;
  const std::vector<std::pair<std::vector<at::ScalarType>, at::ScalarType>> cases = {
      {{f32}, f32},       {{f64}, f64},       {{f32, f64}, f64}, {{f64, f32}, f64},
      {{bf16, f32}, f32}, {{f16, bf16}, f32}, {{bf16}, f32},     {{f16, f64, bf16, f32}, f64}};
  for (const auto& [types, type] : cases) {
    auto net = net_of(types);
    std::vector<at::Tensor> before;
    for (const auto& parameter : net->parameters()) before.push_back(parameter.detach().clone());
    FlatParameters flat(*net);
    EXPECT_EQ(flat.type(), type);
    const auto after = net->parameters();
    for (size_t i = 0; i < after.size(); ++i) {
      EXPECT_EQ(after[i].scalar_type(), types[i / 2]) << i;
      EXPECT_TRUE(torch::equal(after[i], before[i])) << i;
    }
    for (const auto& slot : flat.slots()) {
      const at::Tensor place = FlatParameters::view(flat.values(), slot);
      EXPECT_EQ(lies_in(slot.parameter, place), slot.parameter.scalar_type() == type) << slot.name;
      EXPECT_TRUE(torch::equal(place, slot.parameter.detach().to(type))) << slot.name;
      EXPECT_EQ(slot.elements.first * place.element_size() % 64, 0) << slot.name;
    }
  }
}

TEST(FlatParameters, OfANarrowerTypeAreRoundedAndRefreshed) {
  auto net = net_of({torch::kFloat32, torch::kBFloat16});
  FlatParameters flat(*net);
  const torch::NoGradGuard no_grad;
  flat.values().fill_(1.0F + 1.0F / 1024);  // bf16 has no such number
  const auto& bias = flat.slots()[0];
  const auto& weight = flat.slots()[1];
  ASSERT_EQ(bias.name, "1.bias");
  ASSERT_EQ(weight.name, "1.weight");
  flat.round({weight.elements.first + 1, 1});
  at::Tensor expected = torch::full({1, 3}, 1.0F + 1.0F / 1024);
  expected[0][1] = 1;
  EXPECT_TRUE(torch::equal(FlatParameters::view(flat.values(), weight), expected)) << "only what was named";
  flat.round({0, flat.size()});
  flat.refresh();
  for (const auto& slot : flat.slots()) {
    const bool narrow = slot.parameter.scalar_type() == torch::kBFloat16;
    EXPECT_TRUE((slot.parameter == (narrow ? 1.0F : 1.0F + 1.0F / 1024)).all().item<bool>()) << slot.name;
    EXPECT_TRUE(torch::equal(FlatParameters::view(flat.values(), slot), slot.parameter.to(torch::kFloat32)))
        << slot.name;
  }
}

TEST(FlatParameters, MoveWithTheirValues) {
  auto net = net_of({torch::kFloat64, torch::kFloat32});
  FlatParameters flat(*net);
  const at::Tensor before = flat.values().clone(), there = torch::zeros({flat.size()}, torch::kFloat64);
  flat.move_to(there);
  EXPECT_TRUE(torch::equal(there, before));
  for (const auto& slot : flat.slots())
    EXPECT_EQ(lies_in(slot.parameter, there), slot.parameter.scalar_type() == torch::kFloat64) << slot.name;
}

TEST(FlatParameters, OfOtherNumbersAreRefused) {
  struct Waves : torch::nn::Module {
    Waves() { register_parameter("phase", torch::ones({2}, torch::kComplexFloat)); }
  } waves;
  EXPECT_THROW(FlatParameters{waves}, ConfigError);
}

TEST(FlatBuffers, KeepTheirTypes) {
  torch::nn::BatchNorm1d one(3), other(2);
  other->to(torch::kFloat64);
  torch::nn::Sequential net(one, other);
  one->running_mean.fill_(5);
  other->running_var.fill_(7);
  const FlatBuffers flat(*net);
  ASSERT_EQ(flat.values().size(), 2u);
  EXPECT_EQ(one->running_mean.scalar_type(), torch::kFloat32);
  EXPECT_EQ(other->running_var.scalar_type(), torch::kFloat64);
  EXPECT_TRUE((one->running_mean == 5).all().item<bool>());
  EXPECT_TRUE((other->running_var == 7).all().item<bool>());
  for (const at::Tensor& values : flat.values()) at::Tensor(values).fill_(9);
  EXPECT_TRUE((one->running_var == 9).all().item<bool>());
  EXPECT_TRUE((other->running_mean == 9).all().item<bool>());
}

TEST(SetPrecision, IsForTheTypeThatWasNotChosen) {
  const auto bf16 = torch::kBFloat16, f32 = torch::kFloat32, f64 = torch::kFloat64;
  struct Case {
    std::vector<at::ScalarType> model;
    at::ScalarType precision;
    std::vector<at::ScalarType> expected;
  };
  const std::vector<Case> cases = {{{f32, f32}, f64, {f64, f64}},   {{f64, f64}, f32, {f32, f32}},
                                   {{bf16, bf16}, f32, {f32, f32}}, {{f32, f64}, f32, {f32, f64}},
                                   {{f32, f64}, f64, {f64, f64}},   {{f32, bf16}, f64, {f64, bf16}}};
  for (const auto& [model, precision, expected] : cases) {
    auto net = net_of(model);
    for (int twice = 0; twice < 2; ++twice) set_precision(*net, precision);
    const auto parameters = net->parameters();
    for (size_t i = 0; i < parameters.size(); ++i)
      EXPECT_EQ(parameters[i].scalar_type(), expected[i / 2]) << i;
  }
}

TEST(FlatParameters, OfConvolutionsMayLieChannelsLast) {
  torch::manual_seed(1);
  const auto last = at::MemoryFormat::ChannelsLast;
  torch::nn::Conv2d first(1, 4, 3), second(4, 6, 3);
  torch::nn::ConvTranspose2d third(6, 2, 3);
  torch::nn::Sequential net(first, second, third);
  const at::Tensor x = torch::randn({2, 1, 8, 8});
  std::vector<at::Tensor> before;
  for (const auto& parameter : net->parameters()) before.push_back(parameter.detach().clone());
  const at::Tensor plain = net->forward(x);
  FlatParameters flat(*net, true);
  const auto after = net->parameters();
  for (size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(torch::equal(after[i], before[i])) << i;
  for (const auto& layer : {first->weight, second->weight, third->weight})
    EXPECT_EQ(layer.suggest_memory_format(), last);
  EXPECT_EQ(second->forward(first->forward(x)).suggest_memory_format(), last);
  EXPECT_TRUE(torch::allclose(net->forward(x), plain, 1e-5, 1e-6));
  for (const auto& slot : flat.slots()) {
    EXPECT_TRUE(lies_in(slot.parameter, flat.values())) << slot.name;
    const at::Tensor elements = flat.values().narrow(0, slot.elements.first, slot.elements.count);
    EXPECT_TRUE(torch::equal(FlatParameters::in_order(slot.parameter.contiguous(), slot), elements))
        << slot.name;
  }
}

TEST(OrderChannelsLast, ChangesTheOrderOfConvolutionsAlone) {
  torch::manual_seed(1);
  torch::nn::Conv2d convolution(4, 6, 3);
  torch::nn::Linear linear(6, 2);
  torch::nn::Sequential net(convolution, linear);
  const at::Tensor x = torch::randn({2, 4, 8, 8}), before = convolution->weight.detach().clone();
  const at::Tensor plain = convolution->forward(x);
  order_channels_last(*net);
  EXPECT_EQ(convolution->weight.suggest_memory_format(), at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(torch::equal(convolution->weight, before));
  EXPECT_TRUE(convolution->weight.requires_grad());
  EXPECT_TRUE(torch::allclose(convolution->forward(x), plain, 1e-5, 1e-6));
  EXPECT_TRUE(linear->weight.is_contiguous());
}

// Kernels are chosen by strides, of which a single channel allows several: predictions have the bits of
// validation.
TEST(OrderChannelsLast, GivesTheStridesOfFlatParameters) {
  for (const int64_t channels : {1, 3}) {
    torch::nn::Sequential trained(torch::nn::Conv2d(channels, 4, 3)),
        placed(torch::nn::Conv2d(channels, 4, 3));
    const FlatParameters flat(*trained, true);
    order_channels_last(*placed);
    EXPECT_EQ(placed->parameters()[0].strides(), trained->parameters()[0].strides()) << channels;
  }
}

}  // namespace
}  // namespace lab
