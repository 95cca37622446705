#include "lab/train/leaf_buffers.h"

#include <torch/types.h>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"

namespace lab {

// A row: [samples seen, floats..., integers...]. Doubles hold f32, f64 and counters below 2^53 exactly.
int64_t LeafBuffers::width() const {
  int64_t integers = 0;
  for (const auto& buffer : buffers_.integers()) integers += buffer.tensor.numel();
  return 1 + buffers_.count() + integers;
}

LeafBuffers::LeafBuffers(torch::nn::Module& module, Range own_leaves, int64_t all_leaves)
    : buffers_(module), own_(own_leaves), all_(all_leaves) {
  const auto& floats = buffers_.values();  // the device's
  const auto options = floats.empty() ? at::TensorOptions() : floats.front().options();
  sets_ = torch::zeros({all_, width()}, options.dtype(torch::kFloat64));
  if (width() == 1) return;
  for (int64_t leaf = own_.first; leaf < own_.end(); ++leaf) store(leaf, 0);
}

void LeafBuffers::load(int64_t leaf) {
  if (width() == 1) return;
  const torch::NoGradGuard no_grad;
  put_into_module(sets_[leaf]);
}

void LeafBuffers::put_into_module(const at::Tensor& row) {
  int64_t at = 1;
  for (const at::Tensor& floats : buffers_.values()) {
    floats.copy_(row.narrow(0, at, floats.numel()));
    at += floats.numel();
  }
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
  int64_t at = 1;
  for (const at::Tensor& floats : buffers_.values()) {
    row.narrow(0, at, floats.numel()).copy_(floats);
    at += floats.numel();
  }
  for (const auto& [name, tensor] : buffers_.integers()) {
    row.narrow(0, at, tensor.numel()).copy_(tensor.reshape({-1}));
    at += tensor.numel();
  }
}

at::Tensor LeafBuffers::gathered(Communicator& comm) const {
  const at::Tensor all = torch::zeros(sets_.sizes(), torch::kFloat64);
  all.narrow(0, own_.first, own_.count).copy_(sets_.narrow(0, own_.first, own_.count));
  const Errand errand("leaf buffers");
  comm.all_reduce(as_buffer(all), ReduceOp::sum);  // every row is one rank's values + zeros
  return all;
}

void LeafBuffers::restore(const at::Tensor& gathered) {
  if (gathered.dim() != 2 || gathered.size(1) != width())
    throw DataError("the checkpoint has buffers of ", gathered.dim() > 1 ? gathered.size(1) - 1 : 0,
                    " values, the model has ", width() - 1, "; go on with the model it was written with");
  if (gathered.size(0) == all_) {
    sets_.copy_(gathered);
    return;
  }
  sets_.copy_(combined(gathered).expand_as(sets_));
  sets_.select(1, 0).div_(static_cast<double>(all_));
}

// Samples seen: the sum; floats: the mean by samples seen; integers: the largest.
at::Tensor LeafBuffers::combined(const at::Tensor& all) const {
  at::Tensor row = std::get<0>(all.max(0));
  const double seen = all.select(1, 0).sum().item<double>();
  row[0].fill_(seen);
  at::Tensor floats = row.narrow(0, 1, buffers_.count());
  const at::Tensor sets = all.narrow(1, 1, floats.numel());
  if (seen == 0) {
    floats.copy_(sets[0]);
    return row;
  }
  floats.zero_();
  for (int64_t leaf = 0; leaf < all.size(0); ++leaf)
    floats.add_(sets[leaf], all[leaf][0].item<double>() / seen);
  return row;
}

void LeafBuffers::combine_into_module(const at::Tensor& gathered) {
  if (width() == 1) return;
  const torch::NoGradGuard no_grad;
  put_into_module(combined(gathered));
}

}  // namespace lab
