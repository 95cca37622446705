#include <torch/nn/modules/batchnorm.h>

#include "lab/train/plan.h"
#include "train/explained.h"

namespace lab {

Parts Model::forward(const Batch& batch) const {
  return explained("model", batch, [&] { return forward_(batch); });
}

int64_t least_samples_of(const torch::nn::Module& module) {
  for (const auto& part : module.modules())
    if (part->as<torch::nn::BatchNorm1d>()) return 2;
  return 1;
}

}  // namespace lab
