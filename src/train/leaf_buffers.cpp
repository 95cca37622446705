#include "lab/train/leaf_buffers.h"

#include <torch/types.h>

#include "lab/train/tensor_buffer.h"

namespace lab {

// A row: [samples seen, floats..., integers...]. Doubles hold f32, f64 and counters below 2^53 exactly.
int64_t LeafBuffers::width() const {
  int64_t integers = 0;
  for (const auto& buffer : buffers_.integers()) integers += buffer.tensor.numel();
  return 1 + buffers_.values().numel() + integers;
}

LeafBuffers::LeafBuffers(torch::nn::Module& module, Range own_leaves, int64_t all_leaves)
    : buffers_(module), own_(own_leaves), all_(all_leaves) {
  sets_ = torch::zeros({all_, width()}, torch::kFloat64);
  if (width() == 1) return;
  for (int64_t leaf = own_.first; leaf < own_.end(); ++leaf) store(leaf, 0);
}

void LeafBuffers::load(int64_t leaf) {
  if (width() == 1) return;
  const torch::NoGradGuard no_grad;
  const at::Tensor row = sets_[leaf];
  int64_t at = 1 + buffers_.values().numel();
  buffers_.values().copy_(row.narrow(0, 1, at - 1));
  for (const auto& [name, tensor] : buffers_.integers()) {
    at::Tensor(tensor).copy_(row.narrow(0, at, tensor.numel()).view(tensor.sizes()));
    at += tensor.numel();
  }
}

void LeafBuffers::store(int64_t leaf, int64_t samples) {
  if (width() == 1) return;
  const torch::NoGradGuard no_grad;
  const at::Tensor row = sets_[leaf];
  row[0].add_(samples);
  int64_t at = 1 + buffers_.values().numel();
  row.narrow(0, 1, at - 1).copy_(buffers_.values());
  for (const auto& [name, tensor] : buffers_.integers()) {
    row.narrow(0, at, tensor.numel()).copy_(tensor.reshape({-1}));
    at += tensor.numel();
  }
}

at::Tensor LeafBuffers::gathered(Communicator& comm) const {
  const at::Tensor all = torch::zeros_like(sets_);
  all.narrow(0, own_.first, own_.count).copy_(sets_.narrow(0, own_.first, own_.count));
  comm.all_reduce(as_buffer(all), ReduceOp::sum);  // every row is one rank's values + zeros
  return all;
}

void LeafBuffers::restore(const at::Tensor& gathered) { sets_.copy_(gathered); }

void LeafBuffers::combine_into_module(Communicator& comm) {
  if (width() == 1) return;
  const torch::NoGradGuard no_grad;
  const at::Tensor all = gathered(comm);
  const double seen = all.select(1, 0).sum().item<double>();
  const int64_t floats = buffers_.values().numel();
  if (seen > 0) {
    at::Tensor mean = torch::zeros({floats}, torch::kFloat64);
    for (int64_t leaf = 0; leaf < all_; ++leaf)
      mean.add_(all[leaf].narrow(0, 1, floats), all[leaf][0].item<double>() / seen);
    buffers_.values().copy_(mean);
  }
  int64_t at = 1 + floats;
  const at::Tensor largest = all.amax(0);
  for (const auto& [name, tensor] : buffers_.integers()) {
    at::Tensor(tensor).copy_(largest.narrow(0, at, tensor.numel()).view(tensor.sizes()));
    at += tensor.numel();
  }
}

}  // namespace lab
