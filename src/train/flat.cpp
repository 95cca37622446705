#include "lab/train/flat.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

int64_t aligned(int64_t elements, int64_t element_bytes) {
  const int64_t unit = 64 / element_bytes;
  return (elements + unit - 1) / unit * unit;
}

}  // namespace

FlatParameters::FlatParameters(torch::nn::Module& module) {
  std::set<c10::TensorImpl*> seen;
  for (const auto& item : module.named_parameters())
    if (item.value().requires_grad() && seen.insert(item.value().unsafeGetTensorImpl()).second)
      slots_.push_back({item.key(), item.value(), {}});
  if (slots_.empty())
    throw ConfigError("the model has no trainable parameter; is every layer frozen, or none registered?");
  std::reverse(slots_.begin(), slots_.end());
  const auto type = slots_.front().parameter.scalar_type();
  int64_t end = 0;
  for (auto& slot : slots_) {
    if (slot.parameter.scalar_type() != type)
      throw ConfigError("parameter ", slot.name, " is of type ", slot.parameter.scalar_type(), " and ",
                        slots_.front().name, " of ", type, "; all trainable parameters must have one type");
    slot.elements = {end, slot.parameter.numel()};
    end += aligned(slot.parameter.numel(), slot.parameter.element_size());
  }
  move_to(torch::zeros({end}, slots_.front().parameter.options().requires_grad(false)));
}

void FlatParameters::move_to(const at::Tensor& flat) {
  const torch::NoGradGuard no_grad;
  values_ = flat;
  for (auto& slot : slots_) {
    const at::Tensor place = view(values_, slot);
    place.copy_(slot.parameter);
    slot.parameter.set_data(place);
  }
}

at::Tensor FlatParameters::view(const at::Tensor& flat, const Slot& slot) {
  return flat.narrow(0, slot.elements.first, slot.elements.count).view(slot.parameter.sizes());
}

FlatBuffers::FlatBuffers(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> floats;
  std::set<c10::TensorImpl*> seen;
  for (const auto& item : module.named_buffers()) {
    if (!item.value().defined() || !seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
    if (item.value().is_floating_point())
      floats.push_back(item.value());
    else
      integers_.push_back({item.key(), item.value()});
  }
  std::vector<at::Tensor> flat;
  for (const auto& buffer : floats) flat.push_back(buffer.reshape({-1}));
  values_ = flat.empty() ? torch::zeros({0}) : torch::cat(flat).contiguous();
  int64_t first = 0;
  for (auto& buffer : floats) {
    const int64_t count = buffer.numel();
    buffer.set_data(values_.narrow(0, first, count).view(buffer.sizes()));
    first += count;
  }
}

void broadcast_model(Communicator& comm, torch::nn::Module& module) {
  const Errand errand("weights");
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : model_tensors(module)) {
    const at::Tensor values = tensor.detach().contiguous().clone();
    const Buffer buffer = as_buffer(values);
    comm.broadcast({buffer.data, buffer.bytes(), DType::u8}, 0);
    at::Tensor(tensor).copy_(values);
  }
}

std::vector<NamedTensor> model_tensors(const torch::nn::Module& module) {
  std::vector<NamedTensor> all;
  for (const auto& item : module.named_parameters()) all.push_back({item.key(), item.value()});
  for (const auto& item : module.named_buffers())
    if (item.value().defined()) all.push_back({item.key(), item.value()});
  return all;
}

}  // namespace lab
