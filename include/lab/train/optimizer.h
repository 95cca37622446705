#pragma once
// Optimizers over flat storage: one fused call updates all parameters.

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lab {

// Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; as torch.optim.AdamW.
struct AdamW {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
};

// As torch.optim.SGD.
struct SGD {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

using OptimizerPlan = std::variant<AdamW, SGD>;
double base_rate(const OptimizerPlan& plan);

// State of one flat parameter tensor. Deterministic; never communicates. One thread.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update of `parameters` (1-D) in place, with gradients divided by `divisor` (scalar tensor of f32;
  // undefined: 1). `gradients` may be overwritten. Where `skip` (scalar tensor of f32) is 1, which is looked
  // at on the device, parameters and state stay as they are, though the update counts.
  virtual void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor,
                    const at::Tensor& skip, double rate) = 0;
  virtual std::string name() const = 0;                                            // "AdamW"
  virtual std::vector<std::pair<std::string, at::Tensor>> flat_state() const = 0;  // shaped as the parameters
  virtual int64_t steps() const = 0;                                               // updates done
  virtual void set_steps(int64_t steps) = 0;
};

// make_state is called for each tensor of state, in the order of flat_state(), and gives zeros that are
// shaped as the parameters; without it they lie in memory of their own.
using MakeState = std::function<at::Tensor()>;
std::unique_ptr<Optimizer> make_optimizer(const OptimizerPlan& plan, const at::Tensor& parameters,
                                          const MakeState& make_state = {});

}  // namespace lab
