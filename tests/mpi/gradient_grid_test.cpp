// The gradient of a step against PyTorch's of its samples at once, over rank counts (by how the tests are
// started), batches in a step, shapes of the last batch, losses, numerics and types.

#include <gtest/gtest.h>
#include <torch/nn.h>

#include "group.h"
#include "lab/train/reducer.h"

namespace lab {
namespace {

namespace F = torch::nn::functional;

constexpr int64_t features = 6, classes = 3, global_batch = 12, most_samples = 200;

enum class Kind { class_weights, mask };

struct Case {
  bool canonical;
  int64_t accumulate;
  int64_t last_batch;  // samples in it: full, partial, or fewer than ranks
  Kind kind;
  at::ScalarType type;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << (c.canonical ? "canonical, " : "ordinary, ") << c.accumulate << " batches, the last of "
       << c.last_batch << ", " << (c.kind == Kind::mask ? "mask, " : "class weights, ") << c.type;
}

const std::vector<double> class_weights = {1, 2.5, 0.25};

// All samples of an epoch. The first 7 are masked, so that whole micro-batches weigh nothing.
Batch all_samples(at::ScalarType type) {
  torch::manual_seed(2);
  Batch all;
  all.parts.add("x", torch::randn({most_samples, features}, type));
  all.parts.add("labels", torch::randint(classes, {most_samples}, torch::kInt64));
  all.parts.add("targets", torch::randn({most_samples, classes}, type));
  const at::Tensor mask = torch::rand({most_samples, classes}) < 0.6;
  mask.narrow(0, 0, 7).fill_(false);
  all.parts.add("mask", mask);
  return all;
}

Batch part_of(const Batch& all, Range positions) {
  Batch part;
  for (const auto& [name, tensor] : all.parts.entries())
    part.parts.add(name, tensor.narrow(0, positions.first, positions.count));
  part.ids.resize(static_cast<size_t>(positions.count));
  return part;
}

// Only elements within the mask count.
WeightedSum masked_squares(const Parts& output, const Batch& batch) {
  const at::Tensor mask = batch["mask"].to(output.only().scalar_type());
  return {((output.only() - batch["targets"]).square() * mask).sum(), mask.sum()};
}

at::Tensor mean_by_torch(Kind kind, const at::Tensor& output, const Batch& batch) {
  if (kind == Kind::mask)
    return F::mse_loss(output.masked_select(batch["mask"]), batch["targets"].masked_select(batch["mask"]));
  return F::cross_entropy(
      output, batch["labels"],
      F::CrossEntropyFuncOptions().weight(torch::tensor(class_weights, output.options())));
}

torch::nn::Sequential small_net(at::ScalarType type) {
  torch::manual_seed(1);
  torch::nn::Sequential net(torch::nn::Linear(features, 8), torch::nn::Tanh(), torch::nn::Linear(8, classes));
  net->to(type);
  return net;
}

class GradientGrid : public testing::TestWithParam<Case> {
 protected:
  // The mean gradient of a step, by all ranks.
  at::Tensor by_ranks(int64_t samples, int64_t step) {
    const auto list = micro_batches(numerics_, samples, global_batch, step, comm_.rank(), comm_.size());
    for (size_t i = 0; i < list.size(); ++i) {
      const Batch batch = part_of(all_, list[i].positions);
      const WeightedSum loss =
          batch.count() > 0 ? loss_(Parts(net_->forward(batch["x"])), batch) : WeightedSum();
      reducer_.arm(list[i], loss, i + 1 == list.size());
      if (loss.sum.defined()) loss.sum.backward();
    }
    const StepSums sums = reducer_.finish();
    return sums.gradients.clone();
  }

  // The same by this rank alone, in the order of the flat parameters.
  at::Tensor at_once(Range positions) {
    auto net = small_net(GetParam().type);
    FlatParameters parameters(*net);
    const Batch batch = part_of(all_, positions);
    mean_by_torch(GetParam().kind, net->forward(batch["x"]), batch).backward();
    const at::Tensor flat = torch::zeros_like(parameters.values());
    for (const auto& slot : parameters.slots()) FlatParameters::view(flat, slot).copy_(slot.parameter.grad());
    return flat;
  }

  Communicator& comm_ = test_group();
  const Batch all_ = all_samples(GetParam().type);
  const Numerics numerics_{GetParam().canonical, 8, 1, GetParam().accumulate};
  const Loss loss_ =
      GetParam().kind == Kind::mask ? Loss(masked_squares) : cross_entropy("labels", class_weights);
  torch::nn::Sequential net_ = small_net(GetParam().type);
  FlatParameters parameters_{*net_};
  GradientReducer reducer_{comm_, parameters_, {numerics_, 1e-4}};
};

TEST_P(GradientGrid, IsTheWholeBatchsGradient) {
  const auto& [canonical, accumulate, last_batch, kind, type] = GetParam();
  // Two whole steps and a rest: of as many batches, and of a single one.
  for (const int64_t rest : {accumulate, int64_t{1}}) {
    const int64_t samples = (2 * accumulate + rest - 1) * global_batch + last_batch;
    ASSERT_LE(samples, most_samples);
    ASSERT_EQ(steps_per_epoch(samples, global_batch, accumulate), 3);
    for (int64_t step = 0; step < 3; ++step) {
      const int64_t first = step * accumulate * global_batch;
      const at::Tensor expected = at_once({first, std::min(samples - first, accumulate * global_batch)});
      const at::Tensor difference = by_ranks(samples, step) - expected;
      const double tolerance = type == torch::kFloat64 ? 1e-12 : 1e-5;
      for (const auto& slot : parameters_.slots()) {
        const auto norm = [&](const at::Tensor& flat) {
          return FlatParameters::view(flat, slot).norm().item<double>();
        };
        EXPECT_LE(norm(difference), tolerance * norm(expected)) << slot.name << ", step " << step;
      }
    }
  }
}

std::vector<Case> grid() {
  std::vector<Case> cases;
  for (const bool canonical : {false, true})
    for (const int64_t accumulate : {1, 2, 5})
      for (const int64_t last_batch : {12, 7, 1})
        for (const Kind kind : {Kind::class_weights, Kind::mask})
          for (const at::ScalarType type : {torch::kFloat32, torch::kFloat64})
            cases.push_back({canonical, accumulate, last_batch, kind, type});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, GradientGrid, testing::ValuesIn(grid()));

}  // namespace
}  // namespace lab
