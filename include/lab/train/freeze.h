#pragma once
// Layers that stay as they are while the others learn.

#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace lab {

struct Freeze {
  // Of the names of parameters, as matches() has them ("conv1", "*.bias"); each must match some.
  std::vector<std::string> patterns = {};
  // BatchNorm whose weight and bias match is in evaluation mode in training too: it uses its running
  // statistics, which stay as they are. Otherwise they go on to follow the batches.
  bool norms_in_eval = false;
};

// What matches is not trained: neither its gradients nor any state of an optimizer are kept. Before the
// parameters are flat. Throws ConfigError for a pattern that matches nothing, with the nearest names.
void freeze(torch::nn::Module& module, const Freeze& what);

// The same error; nothing is changed.
void check_frozen(const torch::nn::Module& module, const Freeze& what);

// Puts the module into training mode, but for what stays in evaluation mode.
void set_training(torch::nn::Module& module, const Freeze& frozen);

}  // namespace lab
