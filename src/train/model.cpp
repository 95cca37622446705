#include <ATen/autocast_mode.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/types.h>

#include <set>

#include "lab/train/plan.h"
#include "lab/train/tensor_buffer.h"
#include "train/explained.h"

namespace lab {

namespace {

// torch's autocast on this thread, for one forward.
class Autocast {
 public:
  Autocast(at::DeviceType device, at::ScalarType type)
      : device_(device), before_(at::autocast::is_autocast_enabled(device)) {
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, type);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType device_;
  bool before_;
};

Parts with_type(const Parts& parts, at::ScalarType from, at::ScalarType to) {
  Parts out;
  for (const auto& [name, tensor] : parts.entries())
    out.add(name, tensor.scalar_type() == from ? tensor.to(to) : tensor);
  return out;
}

}  // namespace

void Model::compute_in(at::ScalarType type, bool mixed) {
  narrow_ = type;
  mixed_ = mixed;
}

Parts Model::forward(const Batch& batch) const {
  return explained("model", batch, [&] {
    if (!narrow_) return forward_(batch);
    if (!mixed_)
      return with_type(forward_({with_type(batch.parts, torch::kFloat32, *narrow_), batch.ids}), *narrow_,
                       torch::kFloat32);
    const auto& entries = batch.parts.entries();
    const Autocast narrow(entries.empty() ? at::kCPU : entries.front().second.device().type(), *narrow_);
    return with_type(forward_(batch), *narrow_, torch::kFloat32);
  });
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

void set_precision(Model& model, const TrainerOptions& options) {
  set_precision(model.module(), scalar_type(options.parameter_type()));
  if (options.precision == "bf16-mixed" || options.precision == "bf16-true")
    model.compute_in(torch::kBFloat16, options.precision == "bf16-mixed");
  if (options.precision == "16-mixed") model.compute_in(torch::kFloat16, true);
}

int64_t least_samples_of(const torch::nn::Module& module) {
  for (const auto& part : module.modules())
    if (part->as<torch::nn::BatchNorm1d>()) return 2;
  return 1;
}

}  // namespace lab
