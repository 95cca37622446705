// A loss with parameters of its own.

#include <torch/nn.h>

#include <algorithm>

#include "fitting.h"

namespace lab {
namespace {

struct TemperatureImpl : torch::nn::Module {
  TemperatureImpl() { factor = register_parameter("factor", torch::full({1}, 0.5)); }
  at::Tensor factor;
};
TORCH_MODULE(Temperature);

torch::nn::Sequential network() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(number_features, 8), torch::nn::Tanh(),
                               torch::nn::Linear(8, 3));
}

TrainPlan plan() {
  const Temperature temperature;
  const Loss loss = [temperature, base = cross_entropy()](const Parts& output, const Batch& batch) {
    return base(output.only() * temperature->factor, batch);
  };
  return {.model = {network(), "x"},
          .loss = loss,
          .loss_module = temperature.ptr(),
          .optimizer = AdamW{.lr = 0.05},
          .ema = Ema{.decay = 0.9},
          .train = {.shuffle = true},
          .batch_size = 16};
}

struct ScaledNetImpl : torch::nn::Module {  // the same, but the model has the factor
  ScaledNetImpl() {
    net = register_module("net", network());
    temperature = register_module("temperature", Temperature());
  }
  at::Tensor forward(const at::Tensor& x) { return net->forward(x) * temperature->factor; }
  torch::nn::Sequential net{nullptr};
  Temperature temperature{nullptr};
};
TORCH_MODULE(ScaledNet);

class LossModuleTest : public Fitting {
 protected:
  at::Tensor tensor(const std::string& run, const std::string& name) const {
    const SavedRun saved = read_checkpoint(temporary_ / run + "/last.safetensors");
    const TensorView* view = saved.file.find(name);
    EXPECT_NE(view, nullptr) << name;
    if (!view) return torch::zeros({1});
    return torch::from_blob(const_cast<void*>(view->data), view->shape, torch::kFloat32).clone();
  }
};

TEST_F(LossModuleTest, IsTrainedAndSavedBesideTheModel) {
  fit("run", plan());
  TrainPlan within = plan();
  within.model = {ScaledNet(), "x"};
  within.loss = cross_entropy();
  within.loss_module = nullptr;
  fit("within", std::move(within));
  if (group_->rank() != 0) return;
  EXPECT_GT(std::abs(tensor("run", "lab.loss.factor").item<float>() - 0.5), 0.1);
  EXPECT_TRUE(torch::equal(tensor("run", "lab.loss.factor"), tensor("within", "temperature.factor")));
  EXPECT_TRUE(torch::equal(tensor("run", "0.weight"), tensor("within", "net.0.weight")));
  EXPECT_NE(read_checkpoint(temporary_ / "run/last.safetensors").file.find("lab.ema.lab_loss.factor"),
            nullptr);
  const WeightsFile file(temporary_ / "run/last.safetensors");
  for (const TensorView& view : file.model()) EXPECT_FALSE(view.name.starts_with("lab")) << view.name;
  torch::nn::Sequential net = network();
  load_weights(file, *net.ptr());  // who predicts needs no loss
  EXPECT_TRUE(torch::equal(net->parameters()[0], tensor("run", "0.weight")));
  load_average(file, *net.ptr());
}

TEST_F(LossModuleTest, GoesOnBitForBit) {
  for (const char* numerics : {"ordinary", "canonical"}) {
    options_.numerics = numerics;
    const std::string run = text("run_", numerics), again = text("again_", numerics);
    fit(run, plan());
    fit(again, plan(), "epoch=1-step=6.safetensors", run);
    EXPECT_EQ(last(run), last(again));
  }
}

}  // namespace
}  // namespace lab
