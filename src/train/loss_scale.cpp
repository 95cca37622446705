#include "train/loss_scale.h"

#include <ATen/ops/_amp_update_scale.h>
#include <torch/types.h>

#include <bit>

#include "lab/core/error.h"

namespace lab {

LossScale::LossScale(int64_t batch_size, at::Device device) {
  const auto samples = std::bit_ceil(static_cast<uint64_t>(batch_size));
  const double begin = std::max(65536.0 / static_cast<double>(samples), 1.0);
  scale_ = torch::full({1}, begin, at::TensorOptions(torch::kFloat32).device(device));
  growing_ = torch::zeros({1}, at::TensorOptions(torch::kInt32).device(device));
}

WeightedSum LossScale::scaled(const WeightedSum& loss) const {
  if (!loss.sum.defined()) return loss;
  const at::Tensor scale = scale_.squeeze();
  return {loss.sum * scale, loss.weight * scale};
}

void LossScale::update(const at::Tensor& skip) {
  at::_amp_update_scale_(scale_, growing_, skip.view({1}), 2.0, 0.5, 2000);
}

at::Tensor LossScale::state() const {
  return torch::cat({scale_, growing_.to(torch::kFloat32)}).to(torch::kCPU);
}

void LossScale::restore(const at::Tensor& state) {
  if (state.numel() != 2)
    throw DataError("the checkpoint's lab.loss_scale has ", state.numel(),
                    " numbers, not 2; take another checkpoint, or its weights only");
  scale_.copy_(state.narrow(0, 0, 1));
  growing_.copy_(state.narrow(0, 1, 1));
}

}  // namespace lab
