// Models whose parameters are of several types: gradients, training, and going on.

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn.h>

#include <filesystem>

#include "group.h"
#include "lab/train/reducer.h"
#include "lab/train/tensor_buffer.h"
#include "lab/train/trainer.h"
#include "numbers.h"

namespace lab {
namespace {

constexpr int64_t samples = 60, epoch_steps = 4;

// Layers of f32 around layers of another type, each with a BatchNorm.
struct MixedNetImpl : torch::nn::Module {
  explicit MixedNetImpl(at::ScalarType within) : within_(within) {
    register_module("first", first);
    register_module("norm", norm);
    register_module("second", second);
    register_module("inner_norm", inner_norm);
    register_module("third", third);
    second->to(within);
    inner_norm->to(within);
  }
  at::Tensor forward(const at::Tensor& x) {
    const at::Tensor y = norm(first(x)).tanh().to(within_);
    return third(inner_norm(second(y)).tanh().to(torch::kFloat32));
  }

 private:
  at::ScalarType within_;
  torch::nn::Linear first{number_features, 8}, second{8, 8}, third{8, 3};
  torch::nn::BatchNorm1d norm{8}, inner_norm{8};
};
TORCH_MODULE(MixedNet);

MixedNet mixed_net(at::ScalarType within) {
  torch::manual_seed(3);
  return MixedNet(within);
}

class MixedTypes : public testing::TestWithParam<at::ScalarType> {
 protected:
  MixedTypes() {
    options_.max_epochs = 3;
    options_.numerics = "canonical";
    options_.gradient_clip_val = 0.5;
    options_.checkpoint_every_n_steps = 1;
    options_.checkpoint_keep = 1000;
  }

  // Trains into a folder of that name, from a checkpoint of the folder "alone" where one is named; the bytes
  // of its last checkpoint, on the group's rank 0.
  std::string trained(const std::string& name, Communicator& comm, const OptimizerPlan& optimizer,
                      const std::string& from = "") {
    const std::string folder = temporary_ / name;
    std::filesystem::create_directories(folder);
    std::optional<SavedRun> saved;
    std::unique_ptr<CheckpointSink> sink = no_checkpoints();
    if (comm.rank() == 0) {
      if (!from.empty()) {
        std::filesystem::copy(temporary_ / "alone" + "/" + from, folder);
        saved = read_checkpoint(folder + "/" + from);
      }
      sink = checkpoint_folder({folder, "", Mode::min, options_.checkpoint_keep}, saved ? &*saved : nullptr,
                               Log::silent());
    }
    TrainPlan plan{.model = {mixed_net(GetParam()), "x"},
                   .loss = cross_entropy("labels", {1, 2, 0.5}),
                   .optimizer = optimizer,
                   .train = {.shuffle = true},
                   .batch_size = 16};
    Trainer trainer(std::move(plan), options_,
                    {comm, Log::silent(), source_, nullptr, *sink, {}, saved ? &*saved : nullptr});
    EXPECT_EQ(trainer.fit().steps, 3 * epoch_steps);
    return comm.rank() == 0 ? test::read_bytes(folder + "/last.safetensors") : "";
  }

  const test::TemporaryFolder temporary_;
  const std::shared_ptr<const Source> source_ = numbers(temporary_, samples);
  TrainerOptions options_;
};

TEST_P(MixedTypes, TrainToTheSameBitsOnAnyRanksAndGoOn) {
  const auto self = self_communicator();
  for (const OptimizerPlan& optimizer :
       {OptimizerPlan(AdamW{.lr = 0.05}), OptimizerPlan(SGD{.lr = 0.1, .momentum = 0.9})}) {
    options_.strategy = "ddp";
    const std::string alone = trained("alone", *self, optimizer);
    for (const char* strategy : {"ddp", "zero1"}) {
      options_.strategy = strategy;
      const std::string whole = trained(strategy, test_group(), optimizer);
      const std::string part =
          trained(text(strategy, "_on"), test_group(), optimizer, "epoch=1-step=6.safetensors");
      if (test_group().rank() != 0) continue;
      EXPECT_TRUE(whole == alone) << strategy;
      EXPECT_TRUE(part == alone) << strategy << ", going on";
    }
    const SafetensorsFile file(temporary_ / "alone" + "/last.safetensors");
    EXPECT_EQ(file.find("first.weight")->type, DType::f32);
    EXPECT_EQ(file.find("second.weight")->type, dtype_of(GetParam()));
    EXPECT_EQ(file.find("inner_norm.running_mean")->type, dtype_of(GetParam()));
    for (const char* folder : {"alone", "ddp", "zero1", "ddp_on", "zero1_on"})
      std::filesystem::remove_all(temporary_ / folder);
  }
}

// Each shard's gradient as autograd has it, added in the order of the tree.
TEST_P(MixedTypes, GradientsAreThoseOfAutograd) {
  const Numerics numerics{true, 8};
  auto net = mixed_net(GetParam());
  FlatParameters parameters(*net);
  net->eval();  // shards must not change statistics
  torch::manual_seed(4);
  const at::Tensor x = torch::randn({24, number_features});
  const auto loss_of = [&](Range positions) {
    const at::Tensor out = net->forward(x.narrow(0, positions.first, positions.count));
    return WeightedSum{out.pow(2).sum(), torch::full({}, static_cast<double>(positions.count))};
  };
  std::vector<at::Tensor> wanted, sums;
  for (const auto& slot : parameters.slots()) wanted.push_back(slot.parameter);
  for (const auto& leaf : micro_batches(numerics, 24, 24, 0, 0, 1)) {
    const auto gradients = torch::autograd::grad({loss_of(leaf.positions).sum}, wanted);
    sums.push_back(torch::zeros({parameters.size()}, parameters.type()));
    for (size_t i = 0; i < wanted.size(); ++i)
      FlatParameters::view(sums.back(), parameters.slots()[i]).copy_(gradients[i]);
  }
  for (; sums.size() > 1; sums.resize(sums.size() / 2))
    for (size_t i = 0; i < sums.size() / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];

  GradientReducer reducer(test_group(), parameters, {numerics, 1e-4});
  const auto list = micro_batches(numerics, 24, 24, 0, test_group().rank(), test_group().size());
  for (const auto& micro_batch : list) {
    const WeightedSum loss = loss_of(micro_batch.positions);
    reducer.arm(micro_batch, loss, &micro_batch == &list.back());
    loss.sum.backward();
  }
  const StepSums found = reducer.finish();
  EXPECT_TRUE(torch::equal(found.gradients, sums.front() / 24));
  EXPECT_EQ(found.told().loss_weight, 24);
}

TEST_P(MixedTypes, TheGradientCheckAllowsForTheirRounding) {
  const auto sink = no_checkpoints();
  options_.numerics = "ordinary";
  TrainPlan plan{.model = {mixed_net(GetParam()), "x"},
                 .loss = cross_entropy(),
                 .optimizer = SGD{.lr = 0.1},
                 .train = {.shuffle = true},
                 .batch_size = 16};
  Trainer trainer(std::move(plan), options_, {.comm = test_group(), .train = source_, .checkpoints = *sink});
  for (const auto& comparison : trainer.compare_gradients())
    for (const auto& [name, relative, ok] : comparison.parameters) EXPECT_TRUE(ok) << name << " " << relative;
}

INSTANTIATE_TEST_SUITE_P(Types, MixedTypes, testing::Values(torch::kFloat64, torch::kBFloat16),
                         [](const auto& run) { return c10::toString(run.param); });

}  // namespace
}  // namespace lab
