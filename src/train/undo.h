#pragma once
// Tensors back to what they were.

#include <ATen/core/Tensor.h>

#include <vector>

namespace lab {

// Keeps copies of these tensors from when it is made. One thread; nothing waits for a GPU.
class Undo {
 public:
  explicit Undo(std::vector<at::Tensor> tensors);
  // skip: a scalar, 1 or 0, on the tensors' device.
  void where(const at::Tensor& skip);
  void all() const;

 private:
  std::vector<at::Tensor> tensors_, before_;
};

}  // namespace lab
