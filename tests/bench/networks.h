#pragma once
// The networks that steps are timed with: images (n, 1, 28, 28) to logits (n, 10). ddp_gloo.py has the same.

#include <torch/nn.h>

#include <string>
#include <vector>

#include "lab/core/error.h"

namespace bench {

inline torch::nn::Sequential mlp(const std::vector<int64_t>& widths) {
  torch::nn::Sequential layers{torch::nn::Flatten()};
  int64_t in = 28 * 28;
  for (const int64_t out : widths) {
    layers->push_back(torch::nn::Linear(in, out));
    layers->push_back(torch::nn::ReLU());
    in = out;
  }
  layers->push_back(torch::nn::Linear(in, 10));
  return layers;
}

// 0.67 M, 10.02 M, 0.05 M, 1.20 M and 0.11 M parameters; "digits" is the network of configs/mnist.toml.
inline torch::nn::Sequential network(const std::string& name) {
  using namespace torch::nn;
  if (name == "mlp") return mlp({512, 512});
  if (name == "mlp10m") return mlp({2048, 2048, 2048});
  if (name == "mlp64") return mlp({64});
  if (name == "cnn")
    return Sequential(Conv2d(1, 32, 3), ReLU(), Conv2d(32, 64, 3), ReLU(), MaxPool2d(2), Flatten(),
                      Linear(64 * 12 * 12, 128), ReLU(), Linear(128, 10));
  if (name == "digits")
    return Sequential(Conv2d(1, 16, 3), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3), ReLU(), MaxPool2d(2),
                      Flatten(), Linear(32 * 5 * 5, 64), ReLU(), Linear(64, 10));
  throw lab::UsageError("no network ", lab::quoted(name), "; there are mlp, mlp10m, mlp64, cnn and digits");
}

}  // namespace bench
