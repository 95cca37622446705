// One step of Adam and AdamW on a processor, against torch's kernel.

#include "train/adam_update.h"

#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <vector>

#include "lab/comm/wide.h"

namespace {

using lab::detail::AdamElements;
using lab::detail::AdamStep;

// Of one optimizer: parameters, gradients, and what it keeps.
struct Tensors {
  at::Tensor parameters, gradients, average, squares, largest;

  static Tensors of(int64_t count, c10::ScalarType type) {
    const auto zeros = [&] { return torch::zeros({count}, type); };
    return {torch::randn({count}, type), zeros(), zeros(), zeros(), zeros()};
  }
  Tensors clone() const {
    return {parameters.clone(), gradients.clone(), average.clone(), squares.clone(), largest.clone()};
  }
  std::vector<at::Tensor> all() const { return {parameters, gradients, average, squares, largest}; }
};

struct Kind {
  bool decoupled, amsgrad;
  double decay, beta1 = 0.85;
};
const std::vector<Kind> kinds = {{true, false, 0.1},    {true, false, 0},      {true, true, 0.1},
                                 {false, false, 0},     {false, false, 0.1},   {false, true, 0.1},
                                 {true, false, 0, 0.5}, {true, false, 0, 0.3}, {true, false, 0, 0}};

AdamStep step_of(const Kind& kind, int64_t number) {
  return {.rate = 0.02,
          .beta1 = kind.beta1,
          .beta2 = 0.97,
          .eps = 1e-6,
          .weight_decay = kind.decay,
          .decoupled = kind.decoupled,
          .number = number};
}

template <class T>
void update(const Kind& kind, int64_t number, const Tensors& t, int64_t first, int64_t count) {
  const auto at = [first](const at::Tensor& tensor) { return tensor.data_ptr<T>() + first; };
  lab::detail::update<T>(step_of(kind, number),
                         {at(t.parameters), at(t.gradients), at(t.average), at(t.squares),
                          kind.amsgrad ? at(t.largest) : nullptr},
                         count);
}

void update_as_torch(const Kind& kind, int64_t number, const Tensors& t) {
  const AdamStep s = step_of(kind, number);
  const std::vector<at::Tensor> parameters = {t.parameters}, gradients = {t.gradients}, average = {t.average},
                                squares = {t.squares}, steps = {torch::full({}, static_cast<float>(number))};
  const std::vector<at::Tensor> largest =
      kind.amsgrad ? std::vector<at::Tensor>{t.largest} : std::vector<at::Tensor>{};
  const auto call = [&](const auto& kernel) {
    kernel(parameters, gradients, average, squares, largest, steps, s.rate, s.beta1, s.beta2, s.weight_decay,
           s.eps, kind.amsgrad, /*maximize=*/false, std::nullopt, std::nullopt);
  };
  if (kind.decoupled)
    call([](const auto&... words) { at::_fused_adamw_(words...); });
  else
    call([](const auto&... words) { at::_fused_adam_(words...); });
}

// To the size of what is added up. With torch's kernel for these processors we share each rounding.
template <class T>
double closeness() {
#if defined(__x86_64__)
  if (lab::has_fused_vectors()) return 0;
#endif
  return sizeof(T) == 8 ? 2e-15 : 1e-6;
}

template <class T>
class AdamUpdate : public testing::Test {
 protected:
  static constexpr auto type = c10::CppTypeToScalarType<T>::value;
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AdamUpdate, Types);

// Gradients of very different sizes, with steps that change all but a few by about the rate.
TYPED_TEST(AdamUpdate, IsTorchs) {
  torch::manual_seed(0);
  for (const Kind& kind : kinds) {
    const Tensors ours = Tensors::of(1008, this->type), theirs = ours.clone();
    const at::Tensor scale = torch::pow(10, torch::randint(-8, 4, {1008}, this->type));
    const at::Tensor one = torch::ones({1008}, this->type),
                     seen = kind.decoupled ? scale : scale + kind.decay;
    const std::vector<at::Tensor> sizes = {one, scale, seen, seen * seen, seen * seen};
    for (int64_t number = 1; number <= 6; ++number) {
      ours.gradients.copy_(torch::randn({1008}, this->type) * scale);
      theirs.gradients.copy_(ours.gradients);
      update<TypeParam>(kind, number, ours, 0, 1008);
      update_as_torch(kind, number, theirs);
      for (size_t i = 0; i < ours.all().size(); ++i)
        EXPECT_LE(((ours.all()[i] - theirs.all()[i]).abs() / sizes[i]).max().template item<double>(),
                  closeness<TypeParam>())
            << "tensor " << i << ", step " << number << ", decoupled " << kind.decoupled << ", amsgrad "
            << kind.amsgrad << ", decay " << kind.decay << ", beta1 " << kind.beta1;
    }
  }
}

// Cut anywhere, not only where vectors begin.
TYPED_TEST(AdamUpdate, GivesEachElementItsBitsWhereverItLies) {
  torch::manual_seed(1);
  for (const Kind& kind : kinds) {
    const Tensors whole = Tensors::of(2100, this->type);
    whole.gradients.normal_();
    const Tensors cut = whole.clone();
    for (int64_t number = 1; number <= 3; ++number) {
      update<TypeParam>(kind, number, whole, 0, 2100);
      int64_t first = 0;
      for (const int64_t count : {0, 1, 15, 16, 17, 63, 700, 1288}) {
        update<TypeParam>(kind, number, cut, first, count);
        first += count;
      }
      ASSERT_EQ(first, 2100);
    }
    for (size_t i = 0; i < whole.all().size(); ++i)
      EXPECT_TRUE(whole.all()[i].equal(cut.all()[i])) << "tensor " << i << ", decoupled " << kind.decoupled;
  }
}

TYPED_TEST(AdamUpdate, ChangesNothingBehindItsElements) {
  torch::manual_seed(2);
  for (const Kind& kind : kinds) {
    const Tensors t = Tensors::of(300, this->type), before = t.clone();
    t.gradients.normal_();
    update<TypeParam>(kind, 1, t, 10, 203);
    for (size_t i : {0, 2, 3, 4}) {
      const at::Tensor now = t.all()[i], was = before.all()[i];
      EXPECT_TRUE(now.narrow(0, 0, 10).equal(was.narrow(0, 0, 10))) << i;
      EXPECT_TRUE(now.narrow(0, 213, 87).equal(was.narrow(0, 213, 87))) << i;
      const bool changed = !now.narrow(0, 10, 203).equal(was.narrow(0, 10, 203));
      EXPECT_EQ(changed, i != 4 || kind.amsgrad) << i;
    }
  }
}

}  // namespace
