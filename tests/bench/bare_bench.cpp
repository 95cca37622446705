// Steps of a bare loop on libtorch, as short as one writes it: forward, loss, backward, fused AdamW; one
// process.
//   bare_bench NETWORK BATCH DATA.h5
// Told a number of steps, it does them and says seconds and loss (of the last one). What lab adds to a step
// is what its own take longer than these: images lie ready as floats here, no loss is looked at, nothing is
// recorded.

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adamw.h>
#include <torch/nn.h>

#include "bench/digits.h"
#include "bench/line.h"
#include "bench/networks.h"

namespace {

class Loop {
 public:
  Loop(const std::string& network, int64_t batch, bench::Digits digits)
      : layers_(bench::network(network)), digits_(std::move(digits)), batch_(batch) {
    for (const auto& parameter : layers_->parameters()) {
      parameters_.push_back(parameter);
      averages_.push_back(torch::zeros_like(parameter));
      squares_.push_back(torch::zeros_like(parameter));
      steps_.push_back(torch::zeros({}, torch::kFloat32));
    }
  }

  at::Tensor step() {
    const int64_t first = at_++ % (digits_.labels.numel() / batch_) * batch_;
    const at::Tensor output = layers_->forward(digits_.images.narrow(0, first, batch_));
    const at::Tensor loss =
        torch::nn::functional::cross_entropy(output, digits_.labels.narrow(0, first, batch_));
    loss.backward();
    update();
    return loss;
  }

 private:
  void update() {
    const torch::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      gradients.push_back(parameters_[i].grad());
      steps_[i] += 1;
    }
    at::_fused_adamw_(parameters_, gradients, averages_, squares_, {}, steps_, /*lr=*/1e-3, 0.9, 0.999,
                      /*weight_decay=*/0.01, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
    for (auto& parameter : parameters_) parameter.mutable_grad().reset();
  }

  torch::nn::Sequential layers_;
  bench::Digits digits_;
  int64_t batch_, at_ = 0;
  std::vector<at::Tensor> parameters_, averages_, squares_, steps_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  at::set_num_threads(1);
  torch::manual_seed(0);
  Loop loop(argv[1], std::atoll(argv[2]), bench::read_digits(argv[3]));
  const bench::Line line;
  while (const int64_t count = line.told()) {
    const auto start = std::chrono::steady_clock::now();
    at::Tensor loss;
    for (int64_t i = 0; i < count; ++i) loss = loop.step();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    line.say(lab::text("seconds=", seconds.count(), " loss=", loss.item<double>()));
  }
  return 0;
}
