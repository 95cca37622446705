#include <torch/nn/modules/batchnorm.h>
#include <torch/types.h>

#include <set>

#include "lab/train/plan.h"
#include "train/explained.h"

namespace lab {

Parts Model::forward(const Batch& batch) const {
  return explained("model", batch, [&] { return forward_(batch); });
}

void set_precision(torch::nn::Module& module, at::ScalarType type) {
  std::set<at::ScalarType> types;
  for (const at::Tensor& parameter : module.parameters())
    if (parameter.is_floating_point()) types.insert(parameter.scalar_type());
  if (types.size() <= 1) return module.to(type);
  const auto convert = [type](std::vector<at::Tensor> tensors) {
    for (at::Tensor& tensor : tensors)
      if (tensor.defined() && tensor.scalar_type() == torch::kFloat32) tensor.set_data(tensor.to(type));
  };
  convert(module.parameters());
  convert(module.buffers());
}

int64_t least_samples_of(const torch::nn::Module& module) {
  for (const auto& part : module.modules())
    if (part->as<torch::nn::BatchNorm1d>()) return 2;
  return 1;
}

}  // namespace lab
