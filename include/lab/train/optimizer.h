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

// So many elements of a flat tensor belong to this group of parameters; the next stretch begins behind them.
struct Stretch {
  int64_t count = 0;
  size_t group = 0;
  bool operator==(const Stretch&) const = default;
};

// State of one flat parameter tensor. Deterministic; never communicates. One thread.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update of `parameters` (1-D) in place, with gradients divided by `divisor` (scalar tensor of f32;
  // undefined: 1) and the learning rate of each group. `gradients` may be overwritten. Where `skip` (scalar
  // tensor of f32) is 1, which is looked at on the device, parameters and state stay as they are, though the
  // update counts.
  virtual void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor,
                    const at::Tensor& skip, const std::vector<double>& rates) = 0;
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
// One for groups of parameters: their plans, all of one kind, and the stretches of `parameters` that are
// theirs. A group whose plan is another's gets the bits that it would get in one stretch with it, if
// stretches begin and end at multiples of 64 bytes.
std::unique_ptr<Optimizer> make_optimizer(const std::vector<OptimizerPlan>& groups,
                                          const std::vector<Stretch>& stretches, const at::Tensor& parameters,
                                          const MakeState& make_state = {});

}  // namespace lab
