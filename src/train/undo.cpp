#include "train/undo.h"

#include <torch/types.h>

namespace lab {

Undo::Undo(std::vector<at::Tensor> tensors) : tensors_(std::move(tensors)) {
  for (const at::Tensor& tensor : tensors_) before_.push_back(tensor.clone());
}

void Undo::where(const at::Tensor& skip) {
  const torch::NoGradGuard no_grad;
  if (skip.is_cpu() && skip.item<float>() == 0) return;
  const at::Tensor skipped = skip.to(torch::kBool);
  for (size_t i = 0; i < tensors_.size(); ++i)
    tensors_[i].copy_(torch::where(skipped, before_[i], tensors_[i]));
}

void Undo::all() const {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].copy_(before_[i]);
}

}  // namespace lab
