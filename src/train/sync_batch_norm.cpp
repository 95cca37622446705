#include "lab/train/sync_batch_norm.h"

#include <ATen/ops/batch_norm_native.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/types.h>

#include <algorithm>

#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

bool is_batch_norm(const torch::nn::Module& module) {
  return module.as<torch::nn::BatchNorm1d>() || module.as<torch::nn::BatchNorm2d>() ||
         module.as<torch::nn::BatchNorm3d>();
}

// Of torch's functions for what the module computes with.
c10::DispatchKey autograd_key_of(const torch::nn::Module& module) {
  const auto parameters = module.parameters();
  const at::Device device = parameters.empty() ? at::Device(at::kCPU) : parameters.front().device();
  return c10::getAutogradKeyFromBackend(
      c10::toBackendComponent(c10::computeDispatchKey(std::nullopt, c10::kStrided, device)));
}

// What tells a layer's calls from others: its weights and its running means.
std::vector<at::Tensor> marks_of(const torch::nn::Module& layer) {
  std::vector<at::Tensor> marks;
  for (const auto& [name, own] : {std::pair("weight", layer.named_parameters(false)),
                                  std::pair("running_mean", layer.named_buffers(false))})
    if (const auto* found = own.find(name); found && found->defined()) marks.push_back(*found);
  return marks;
}

// All dimensions but the channels, and a channel's value in the shape of `like`.
std::vector<int64_t> dims_of(const at::Tensor& like) {
  std::vector<int64_t> dims = {0};
  for (int64_t d = 2; d < like.dim(); ++d) dims.push_back(d);
  return dims;
}
at::Tensor spread(const at::Tensor& per_channel, const at::Tensor& like) {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[1] = like.size(1);
  return per_channel.to(like.scalar_type()).view(shape);
}

bool given(const OptionalTensor& tensor) { return tensor && tensor->defined(); }

// Per channel, as doubles.
struct Statistics {
  at::Tensor mean, squares;  // squares: sum of the squared distances from the mean
  at::Tensor count;          // values; a scalar
};

// Of the rows [count, means..., squares...]. Chan, Golub, LeVeque, "Algorithms for computing the sample
// variance", 1983. The host never asks for a number.
Statistics merged(const at::Tensor& rows, int64_t channels) {
  const at::Tensor counts = rows.narrow(1, 0, 1), means = rows.narrow(1, 1, channels),
                   squares = rows.narrow(1, 1 + channels, channels);
  const at::Tensor count = counts.sum();
  const at::Tensor mean = (counts * means).sum(0) / count;
  return {mean, (squares + counts * (means - mean).square()).sum(0), count};
}

// The layers of a module, and the other ranks'.
struct Layers final : torch::CustomClassHolder {
  explicit Layers(Communicator& group) : comm(group) {}
  Communicator& comm;
  std::vector<at::Tensor> marks;
  bool together = false, counts = true;

  bool know(const OptionalTensor& tensor) const {
    return given(tensor) &&
           std::ranges::any_of(marks, [&](const auto& mark) { return mark.is_same(*tensor); });
  }
  Statistics statistics(const at::Tensor& x) const;
  at::Tensor batch_norm(const at::Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                        const OptionalTensor& running_mean, const OptionalTensor& running_var,
                        double momentum, double eps);
};

Statistics Layers::statistics(const at::Tensor& x) const {
  const int64_t channels = x.size(1);
  const at::Tensor rows = torch::zeros({comm.size(), 1 + 2 * channels}, x.options().dtype(torch::kFloat64));
  if (counts) {
    const auto count = static_cast<double>(x.numel() / channels);
    const auto [variance, mean] = at::var_mean(x, dims_of(x), /*correction=*/0);
    const at::Tensor own = rows[comm.rank()];
    own[0].fill_(count);
    own.narrow(0, 1, channels).copy_(mean);
    own.narrow(0, 1 + channels, channels).copy_(variance).mul_(count);
  }
  comm.all_gather(as_buffer(rows));
  return merged(rows, channels);
}

// (x - mean) * scale, where mean and scale are functions of all ranks' x.
class Normalized final : public torch::autograd::Function<Normalized> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& mean, const at::Tensor& scale, const at::Tensor& count,
                            const c10::intrusive_ptr<Layers>& layers) {
    const at::Tensor normal = (x - spread(mean, x)) * spread(scale, x);
    context->save_for_backward({normal, scale});
    context->saved_data["count"] = count;
    context->saved_data["counts"] = layers->counts;
    context->saved_data["layers"] = at::IValue::make_capsule(layers);
    return normal;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &normal = saved[0], &scale = saved[1], &gradient = gradients[0];
    const auto layers = c10::static_intrusive_pointer_cast<Layers>(context->saved_data["layers"].toCapsule());
    const bool counts = context->saved_data["counts"].toBool();
    const at::Tensor sums = torch::stack({gradient.sum(dims_of(normal), false, torch::kFloat64),
                                          (gradient * normal).sum(dims_of(normal), false, torch::kFloat64)});
    if (!counts) sums.zero_();
    layers->comm.all_reduce(as_buffer(sums), ReduceOp::sum);
    if (!counts) return {torch::zeros_like(gradient), {}, {}, {}, {}};
    sums.div_(context->saved_data["count"].toTensor());
    const at::Tensor through = spread(sums[0], normal) + normal * spread(sums[1], normal);
    return {(gradient - through) * spread(scale, normal), {}, {}, {}, {}};
  }
};

at::Tensor Layers::batch_norm(const at::Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                              const OptionalTensor& running_mean, const OptionalTensor& running_var,
                              double momentum, double eps) {
  Statistics all;
  at::Tensor scale;
  {
    const torch::NoGradGuard no_grad;
    all = statistics(x);
    scale = (all.squares / all.count + eps).rsqrt();
    if (given(running_mean)) running_mean->mul_(1 - momentum).add_(all.mean, momentum);
    if (given(running_var))
      running_var->mul_(1 - momentum).add_(all.squares / (all.count - 1).clamp_min(1), momentum);
  }
  at::Tensor y =
      Normalized::apply(x, all.mean, scale, all.count, c10::intrusive_ptr<Layers>::reclaim_copy(this));
  if (given(weight)) y = y * spread(*weight, y);
  if (given(bias)) y = y + spread(*bias, y);
  return y;
}

}  // namespace

struct SyncBatchNorm::State {
  c10::intrusive_ptr<Layers> layers;
  std::vector<std::shared_ptr<torch::nn::Module>> modules = {};
  torch::Library kernel;  // torch's own is back when it is gone
};

SyncBatchNorm::SyncBatchNorm(torch::nn::Module& module, Communicator& comm)
    : state_(std::make_unique<State>(
          State{c10::make_intrusive<Layers>(comm),
                {},
                torch::Library(torch::Library::IMPL, "aten", autograd_key_of(module), __FILE__, __LINE__)})) {
  for (const auto& part : module.modules())
    if (is_batch_norm(*part)) {
      state_->modules.push_back(part);
      for (const auto& mark : marks_of(*part)) state_->layers->marks.push_back(mark);
    }
  const auto batch_norm = [layers = state_->layers.get()](
                              const at::Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                              const OptionalTensor& running_mean, const OptionalTensor& running_var,
                              bool training, double momentum, double eps, bool cudnn) {
    if (training && layers->together && (layers->know(weight) || layers->know(running_mean)))
      return layers->batch_norm(x, weight, bias, running_mean, running_var, momentum, eps);
    return at::native::batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, cudnn);
  };
  state_->kernel.impl("batch_norm", batch_norm);
}

SyncBatchNorm::~SyncBatchNorm() = default;

void SyncBatchNorm::train() {
  for (const auto& layer : state_->modules) layer->train();
}

SyncBatchNorm::Together::Together(SyncBatchNorm* layers, bool counts) : layers_(layers) {
  if (!layers_) return;
  layers_->state_->layers->together = true;
  layers_->state_->layers->counts = counts;
}

SyncBatchNorm::Together::~Together() {
  if (layers_) layers_->state_->layers->together = false;
}

std::vector<std::string> nameless_batch_norms_of(const torch::nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& item : module.named_modules())
    if (is_batch_norm(*item.value()) && marks_of(*item.value()).empty()) names.push_back(item.key());
  return names;
}

}  // namespace lab
