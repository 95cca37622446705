#include "train/max_pool_layout.h"

#include <ATen/ops/max_pool2d_with_indices_backward_cpu_dispatch.h>
#include <torch/library.h>

namespace lab::detail {
namespace {

at::Tensor backward(const at::Tensor& gradient, const at::Tensor& input, at::IntArrayRef kernel,
                    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool ceil_mode,
                    const at::Tensor& indices) {
  return at::cpu::max_pool2d_with_indices_backward(gradient.contiguous(input.suggest_memory_format()), input,
                                                   kernel, stride, padding, dilation, ceil_mode, indices);
}

class NoWarnings final : public c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

void keep_layout_in_max_pool_backward() {
  static const torch::Library replaced = [] {
    NoWarnings handler;  // torch warns that a function of its own is replaced
    const c10::WarningUtils::WarningHandlerGuard guard(&handler);
    torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
    library.impl("max_pool2d_with_indices_backward", TORCH_FN(backward));
    return library;
  }();
}

}  // namespace lab::detail
