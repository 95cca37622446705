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

// Each is as torch.optim's of the same name, and has its defaults. Weight decay is an L2 penalty but in
// AdamW, or where it is `decoupled`.

// Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
struct AdamW {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool amsgrad = false;
};

// Kingma and Ba, "Adam: a method for stochastic optimization", 2015.
struct Adam {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool amsgrad = false;
};

struct SGD {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

// Duchi, Hazan and Singer, "Adaptive subgradient methods", 2011.
struct Adagrad {
  double lr = 0.01;
  double lr_decay = 0;
  double weight_decay = 0;
  double initial_accumulator = 0;
  double eps = 1e-10;
};

// Hinton's lecture 6e, 2012; centered as Graves, "Generating sequences", 2013.
struct RMSprop {
  double lr = 0.01;
  double alpha = 0.99;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;
};

// Zeiler, "Adadelta: an adaptive learning rate method", 2012.
struct Adadelta {
  double lr = 1;
  double rho = 0.9;
  double eps = 1e-6;
  double weight_decay = 0;
};

// Kingma and Ba, 2015, section 7.
struct Adamax {
  double lr = 2e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
};

// Dozat, "Incorporating Nesterov momentum into Adam", 2016.
struct NAdam {
  double lr = 2e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum_decay = 4e-3;
  bool decoupled = false;
};

// Liu and others, "On the variance of the adaptive learning rate and beyond", 2020.
struct RAdam {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = false;
};

// What an optimizer of one's own does to some of the parameters, which may be any stretch of the model's:
// each element by itself. All are 1-D, as long as each other, and changed in place; gradients are means, and
// may be overwritten.
struct OptimizerStep {
  int64_t number = 1;  // of updates with this one
  double rate = 0;     // of this step and group
  double weight_decay = 0;
  at::Tensor parameters, gradients;
  std::vector<at::Tensor> state;  // as it is named; zeros at first
};
//   OwnOptimizer{.name = "signs", .lr = 1e-4, .update = [](lab::OptimizerStep& step) {
//     step.parameters.sub_(step.gradients.sign_().mul_(step.rate)); }}
struct OwnOptimizer {
  std::string name;  // in checkpoints, too: another name's state is refused
  double lr = 1e-3;
  double weight_decay = 0;
  std::vector<std::string> state = {};
  std::function<void(OptimizerStep& step)> update = {};
  std::string settings = {};  // its other values, in which ranks and resumed runs must agree
};

using OptimizerPlan =
    std::variant<AdamW, SGD, Adam, Adagrad, RMSprop, Adadelta, Adamax, NAdam, RAdam, OwnOptimizer>;
double base_rate(const OptimizerPlan& plan);
std::string name_of(const OptimizerPlan& plan);  // "AdamW"
// Its name and a line for each value: "AdamW\nrate 0.001\n...".
std::string in_words(const OptimizerPlan& plan);
// Of the tensors that it keeps beside the parameters, each as large as they are.
std::vector<std::string> state_names(const OptimizerPlan& plan);

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
  // tensor of f32) is 1, which is looked at on the device, parameters and state stay as they are; whether
  // it counts is for the caller to know.
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
