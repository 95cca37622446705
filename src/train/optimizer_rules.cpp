// Each operation rounds once, so that an element's bits are the same wherever in a tensor it lies, and with
// whichever instructions: no addition of a multiple, which some of them round twice.

#include "train/optimizer_rules.h"

#include <torch/types.h>

#include <cmath>

#include "lab/core/error.h"

namespace lab::detail {
namespace {

void add_decay(OptimizerStep& step) {
  if (step.weight_decay != 0) step.gradients.add_(step.parameters * step.weight_decay);
}

// Of the parameters, or of the gradients.
void decay(OptimizerStep& step, bool decoupled) {
  if (decoupled)
    step.parameters.mul_(1 - step.rate * step.weight_decay);
  else
    add_decay(step);
}

// A moving average takes in new values.
void average(at::Tensor& average, double keep, const at::Tensor& values) {
  average.mul_(keep).add_(values * (1 - keep));
}

void update(const Adagrad& p, OptimizerStep& step) {
  add_decay(step);
  at::Tensor& sum = step.state[0];
  sum.add_(step.gradients.square());
  const double rate = step.rate / (1 + static_cast<double>(step.number - 1) * p.lr_decay);
  step.parameters.sub_(step.gradients.div_(sum.sqrt().add_(p.eps)).mul_(rate));
}

void update(const RMSprop& p, OptimizerStep& step) {
  add_decay(step);
  at::Tensor& squares = step.state[0];
  average(squares, p.alpha, step.gradients.square());
  at::Tensor variance = squares;
  if (p.centered) {
    average(step.state[1], p.alpha, step.gradients);
    variance = squares - step.state[1].square();
  }
  step.gradients.div_(variance.sqrt().add_(p.eps));
  if (p.momentum != 0) {
    at::Tensor& momentum = step.state.back();
    momentum.mul_(p.momentum).add_(step.gradients);
    step.gradients.copy_(momentum);
  }
  step.parameters.sub_(step.gradients.mul_(step.rate));
}

void update(const Adadelta& p, OptimizerStep& step) {
  add_decay(step);
  at::Tensor &squares = step.state[0], &deltas = step.state[1];
  average(squares, p.rho, step.gradients.square());
  at::Tensor delta = (deltas + p.eps).sqrt_().div_((squares + p.eps).sqrt_()).mul_(step.gradients);
  average(deltas, p.rho, delta.square());
  step.parameters.sub_(delta.mul_(step.rate));
}

void update(const Adamax& p, OptimizerStep& step) {
  add_decay(step);
  at::Tensor &mean = step.state[0], &largest = step.state[1];
  average(mean, p.beta1, step.gradients);
  largest.mul_(p.beta2);
  at::maximum_out(largest, largest, step.gradients.abs_().add_(p.eps));
  const double correction = 1 - std::pow(p.beta1, static_cast<double>(step.number));
  step.parameters.sub_((mean / largest).mul_(step.rate / correction));
}

double nadam_momentum(const NAdam& p, int64_t number) {
  return p.beta1 * (1 - 0.5 * std::pow(0.96, static_cast<double>(number) * p.momentum_decay));
}

// Of the momenta of all steps so far. A resumed run, which knows none, multiplies them anew, in the same
// order.
class MomentumProduct {
 public:
  double up_to(const NAdam& p, int64_t number) {
    if (number < number_) *this = {};
    while (number_ < number) product_ *= nadam_momentum(p, ++number_);
    return product_;
  }

 private:
  int64_t number_ = 0;
  double product_ = 1;
};

void update(const NAdam& p, MomentumProduct& momenta, OptimizerStep& step) {
  decay(step, p.decoupled);
  average(step.state[0], p.beta1, step.gradients);
  average(step.state[1], p.beta2, step.gradients.square());
  const double product = momenta.up_to(p, step.number);
  const double now = nadam_momentum(p, step.number), next = nadam_momentum(p, step.number + 1);
  const double correction = 1 - std::pow(p.beta2, static_cast<double>(step.number));
  const at::Tensor scale = (step.state[1] / correction).sqrt_().add_(p.eps);
  step.parameters.sub_(step.gradients.div_(scale).mul_(step.rate * (1 - now) / (1 - product)));
  step.parameters.sub_((step.state[0] / scale).mul_(step.rate * next / (1 - product * next)));
}

void update(const RAdam& p, OptimizerStep& step) {
  decay(step, p.decoupled);
  average(step.state[0], p.beta1, step.gradients);
  average(step.state[1], p.beta2, step.gradients.square());
  const auto number = static_cast<double>(step.number);
  const double beta2_power = std::pow(p.beta2, number);
  at::Tensor change = step.state[0] / (1 - std::pow(p.beta1, number));
  const double most = 2 / (1 - p.beta2) - 1;
  const double length = most - 2 * number * beta2_power / (1 - beta2_power);
  if (length > 5) {
    const double rectified =
        std::sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length));
    change.mul_(rectified * std::sqrt(1 - beta2_power)).div_(step.state[1].sqrt().add_(p.eps));
  }
  step.parameters.sub_(change.mul_(step.rate));
}

template <class Plan>
OptimizerRule rule(const Plan& plan) {
  if constexpr (requires(OptimizerStep & step) { update(plan, step); })
    return {[plan](OptimizerStep& step) { update(plan, step); }};
  else
    throw Bug("an optimizer with a fused kernel was asked for its rule");
}

}  // namespace

OptimizerRule rule_of(const OptimizerPlan& plan) {
  if (const auto* own = std::get_if<OwnOptimizer>(&plan)) return {own->update};
  if (const auto* nadam = std::get_if<NAdam>(&plan))
    return {
        [p = *nadam, momenta = MomentumProduct()](OptimizerStep& step) mutable { update(p, momenta, step); }};
  OptimizerRule out = std::visit([](const auto& p) { return rule(p); }, plan);
  if (const auto* adagrad = std::get_if<Adagrad>(&plan)) out.initial = adagrad->initial_accumulator;
  return out;
}

}  // namespace lab::detail
