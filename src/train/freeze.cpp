#include "lab/train/freeze.h"

#include <torch/nn/modules/batchnorm.h>

#include <algorithm>

#include "lab/train/parameter_groups.h"
#include "train/name_patterns.h"

namespace lab {
namespace {

bool is_frozen(const std::string& name, const Freeze& frozen) {
  return std::ranges::any_of(frozen.patterns, [&](const auto& pattern) { return matches(name, pattern); });
}

bool is_batch_norm(const torch::nn::Module& module) {
  return module.as<torch::nn::BatchNorm1d>() || module.as<torch::nn::BatchNorm2d>() ||
         module.as<torch::nn::BatchNorm3d>();
}

}  // namespace

void check_frozen(const torch::nn::Module& module, const Freeze& what) {
  require_matches(what.patterns, module, "what is to be frozen has");
}

void freeze(torch::nn::Module& module, const Freeze& what) {
  check_frozen(module, what);
  for (const auto& item : module.named_parameters())
    if (is_frozen(item.key(), what)) at::Tensor(item.value()).set_requires_grad(false);
}

void set_training(torch::nn::Module& module, const Freeze& frozen) {
  module.train();
  if (!frozen.norms_in_eval) return;
  for (const auto& item : module.named_modules()) {
    const std::string layer = item.key().empty() ? "" : item.key() + ".";
    if (is_batch_norm(*item.value()) && is_frozen(layer + "weight", frozen) &&
        is_frozen(layer + "bias", frozen))
      item.value()->eval();
  }
}

}  // namespace lab
