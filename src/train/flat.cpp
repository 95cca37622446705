#include "lab/train/flat.h"

#include <torch/nn/modules/conv.h>
#include <torch/types.h>

#include <algorithm>
#include <map>
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

// Sums of gradients take 32 bits at least.
at::ScalarType type_for(const std::vector<FlatParameters::Slot>& slots) {
  at::ScalarType type = torch::kFloat32;
  for (const auto& slot : slots) {
    const at::ScalarType own = slot.parameter.scalar_type();
    if (own == torch::kFloat64)
      type = own;
    else if (own != torch::kFloat32 && own != torch::kFloat16 && own != torch::kBFloat16)
      throw ConfigError("parameter ", slot.name, " is of type ", own,
                        "; what is trained must be of floats of 16, 32 or 64 bits");
  }
  return type;
}

// The weights of its layers that can work on channels that lie side by side.
std::set<c10::TensorImpl*> convolution_weights(const torch::nn::Module& module) {
  std::set<c10::TensorImpl*> weights;
  for (const auto& layer : module.modules()) {
    if (const auto* convolution = layer->as<torch::nn::Conv2dImpl>())
      weights.insert(convolution->weight.unsafeGetTensorImpl());
    if (const auto* convolution = layer->as<torch::nn::ConvTranspose2dImpl>())
      weights.insert(convolution->weight.unsafeGetTensorImpl());
  }
  return weights;
}

}  // namespace

FlatParameters::FlatParameters(torch::nn::Module& module, bool channels_last) {
  std::set<c10::TensorImpl*> convolutions;
  if (channels_last) convolutions = convolution_weights(module);
  std::set<c10::TensorImpl*> seen;
  for (const auto& item : module.named_parameters())
    if (item.value().requires_grad() && seen.insert(item.value().unsafeGetTensorImpl()).second)
      slots_.push_back(
          {item.key(), item.value(), {}, convolutions.contains(item.value().unsafeGetTensorImpl())});
  if (slots_.empty())
    throw ConfigError("the model has no trainable parameter; is every layer frozen, or none registered?");
  std::reverse(slots_.begin(), slots_.end());
  const at::ScalarType type = type_for(slots_);
  int64_t end = 0;
  for (auto& slot : slots_) {
    slot.elements = {end, slot.parameter.numel()};
    end += aligned(slot.parameter.numel(), static_cast<int64_t>(c10::elementSize(type)));
  }
  move_to(torch::zeros({end}, slots_.front().parameter.options().dtype(type).requires_grad(false)));
}

void FlatParameters::move_to(const at::Tensor& flat) {
  const torch::NoGradGuard no_grad;
  values_ = flat;
  for (auto& slot : slots_) {
    const at::Tensor place = view(values_, slot);
    place.copy_(slot.parameter);
    if (!is_narrower(slot)) slot.parameter.set_data(place);
  }
}

bool FlatParameters::is_narrower(const Slot& slot) const { return slot.parameter.scalar_type() != type(); }

void FlatParameters::round(Range elements) {
  const torch::NoGradGuard no_grad;
  for (const auto& slot : slots_) {
    if (!is_narrower(slot)) continue;
    const Range here = overlap(slot.elements, elements);
    const at::Tensor part = values_.narrow(0, here.first, here.count);
    part.copy_(part.to(slot.parameter.scalar_type()));
  }
}

void FlatParameters::refresh() {
  const torch::NoGradGuard no_grad;
  for (const auto& slot : slots_)
    if (is_narrower(slot)) at::Tensor(slot.parameter).copy_(view(values_, slot));
}

at::Tensor FlatParameters::view(const at::Tensor& flat, const Slot& slot) {
  const at::Tensor elements = flat.narrow(0, slot.elements.first, slot.elements.count);
  const auto shape = slot.parameter.sizes();
  if (!slot.channels_last) return elements.view(shape);
  return elements.view({shape[0], shape[2], shape[3], shape[1]}).permute({0, 3, 1, 2});
}

at::Tensor FlatParameters::in_order(const at::Tensor& tensor, const Slot& slot) {
  return (slot.channels_last ? tensor.permute({0, 2, 3, 1}) : tensor).flatten();
}

void order_channels_last(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  const auto weights = convolution_weights(module);
  for (auto& parameter : module.parameters())
    if (weights.contains(parameter.unsafeGetTensorImpl())) {
      const auto n = parameter.size(0), c = parameter.size(1), h = parameter.size(2), w = parameter.size(3);
      const at::Tensor pixels = parameter.permute({0, 2, 3, 1}).reshape({-1});
      parameter.set_data(pixels.view({n, h, w, c}).permute({0, 3, 1, 2}));  // as the flat parameters' views
    }
}

FlatBuffers::FlatBuffers(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  std::map<at::ScalarType, std::vector<at::Tensor>> floats;
  std::set<c10::TensorImpl*> seen;
  for (const auto& item : module.named_buffers()) {
    if (!item.value().defined() || !seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
    if (item.value().is_floating_point())
      floats[item.value().scalar_type()].push_back(item.value());
    else
      integers_.push_back({item.key(), item.value()});
  }
  for (auto& [type, buffers] : floats) {
    std::vector<at::Tensor> flat;
    for (const auto& buffer : buffers) flat.push_back(buffer.reshape({-1}));
    values_.push_back(torch::cat(flat).contiguous());
    int64_t first = 0;
    for (auto& buffer : buffers) {
      const int64_t count = buffer.numel();
      buffer.set_data(values_.back().narrow(0, first, count).view(buffer.sizes()));
      first += count;
    }
  }
}

int64_t FlatBuffers::count() const {
  int64_t count = 0;
  for (const at::Tensor& values : values_) count += values.numel();
  return count;
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
