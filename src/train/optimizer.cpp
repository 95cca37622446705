#include "lab/train/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <torch/types.h>

#include <algorithm>

#include "lab/comm/wide.h"
#include "lab/core/error.h"
#include "train/adam_update.h"
#include "train/optimizer_rules.h"

namespace lab {
namespace {

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

// A flat tensor's stretches as views, by group.
using Pieces = std::vector<std::vector<at::Tensor>>;

class Cut {
 public:
  Cut(size_t groups, const std::vector<Stretch>& stretches) : groups_(groups) {
    for (const auto& [count, group] : stretches) {
      sizes_.push_back(count);
      group_of_.push_back(group);
    }
  }
  size_t groups() const { return groups_; }
  Pieces of(const at::Tensor& flat) const {
    Pieces pieces(groups_);
    const auto views = sizes_.size() > 1 ? flat.split_with_sizes(sizes_) : std::vector<at::Tensor>{flat};
    for (size_t i = 0; i < group_of_.size(); ++i) pieces[group_of_[i]].push_back(views[i]);
    return pieces;
  }

 private:
  size_t groups_;
  std::vector<int64_t> sizes_;
  std::vector<size_t> group_of_;
};

// In the order of state_names().
std::vector<at::Tensor> make_states(const std::vector<std::string>& names, const MakeState& make_state) {
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < names.size(); ++i) out.push_back(make_state());
  return out;
}

using NamedState = std::vector<std::pair<std::string, at::Tensor>>;
NamedState named(const std::vector<std::string>& names, const std::vector<at::Tensor>& states) {
  NamedState out;
  for (size_t i = 0; i < names.size(); ++i) out.emplace_back(names[i], states[i]);
  return out;
}

// Adam and AdamW. On a processor's one thread by an update of our own, which fetches ahead; else by torch's
// fused kernels, which use several, or a GPU. They take lists of tensors, and so one call for each group.
template <class Plan>
class FlatAdam final : public Optimizer {
 public:
  FlatAdam(const std::vector<Plan>& plans, Cut cut, const at::Tensor& parameters, const MakeState& make_state)
      : plans_(plans),
        cut_(std::move(cut)),
        names_(state_names(plans.front())),
        states_(make_states(names_, make_state)),
        steps_(torch::zeros({}, parameters.options().dtype(torch::kFloat32))) {
    for (const at::Tensor& state : states_) pieces_.push_back(cut_.of(state));
    pieces_.resize(3, Pieces(cut_.groups()));
  }

  void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            const std::vector<double>& rates) override {
    const bool cpu = parameters.is_cpu();
    if (cpu && skip.defined() && skip.item<float>() != 0) return;
    steps_.add_(1);
    if (!cpu && skip.defined()) steps_.sub_(skip);  // what is skipped is no step of the averages
    const bool ours = cpu && at::get_num_threads() == 1 && has_fused_vectors();
    if (ours && divisor.defined()) gradients.div_(divisor);
    const Pieces values = cut_.of(parameters), sums = cut_.of(gradients);
    for (size_t g = 0; g < cut_.groups(); ++g)
      if (!values[g].empty())
        ours ? update_by_ours(g, values[g], sums[g], rates.at(g))
             : update_by_torchs(g, values[g], sums[g], rates.at(g), divisor, skip);
  }
  std::string name() const override { return name_of(plans_.front()); }
  NamedState flat_state() const override { return named(names_, states_); }
  int64_t steps() const override { return steps_.item<int64_t>(); }
  void set_steps(int64_t steps) override { steps_.fill_(steps); }

 private:
  using Tensors = std::vector<at::Tensor>;

  void update_by_ours(size_t g, const Tensors& values, const Tensors& means, double rate) {
    const Plan& p = plans_[g];
    const detail::AdamStep step = {.rate = rate,
                                   .beta1 = p.beta1,
                                   .beta2 = p.beta2,
                                   .eps = p.eps,
                                   .weight_decay = p.weight_decay,
                                   .decoupled = std::is_same_v<Plan, AdamW>,
                                   .number = steps()};
    for (size_t i = 0; i < values.size(); ++i) {
      const auto update_as = [&]<class T>(T) {
        detail::update<T>(step,
                          {.parameters = values[i].data_ptr<T>(),
                           .gradients = means[i].const_data_ptr<T>(),
                           .average = pieces_[0][g][i].template data_ptr<T>(),
                           .squares = pieces_[1][g][i].template data_ptr<T>(),
                           .largest = p.amsgrad ? pieces_[2][g][i].template data_ptr<T>() : nullptr},
                          values[i].numel());
      };
      values[i].scalar_type() == torch::kFloat64 ? update_as(double{}) : update_as(float{});
    }
  }

  void update_by_torchs(size_t g, const Tensors& values, const Tensors& sums, double rate,
                        const at::Tensor& divisor, const at::Tensor& skip) {
    const Plan& p = plans_[g];
    const Tensors steps(values.size(), steps_);
    const auto update = [&](const auto& kernel) {
      kernel(values, sums, pieces_[0][g], pieces_[1][g], pieces_[2][g], steps, rate, p.beta1, p.beta2,
             p.weight_decay, p.eps, p.amsgrad, /*maximize=*/false, if_defined(divisor), if_defined(skip));
    };
    if constexpr (std::is_same_v<Plan, AdamW>)
      update([](const auto&... words) { at::_fused_adamw_(words...); });
    else
      update([](const auto&... words) { at::_fused_adam_(words...); });
  }

  std::vector<Plan> plans_;
  Cut cut_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> states_;
  std::vector<Pieces> pieces_;  // of each
  at::Tensor steps_;
};

// Those without a fused kernel: a rule for each group, on one stretch after the other. On a GPU the host
// waits to know whether the step is skipped.
class FlatByRule final : public Optimizer {
 public:
  FlatByRule(const std::vector<OptimizerPlan>& plans, Cut cut, const MakeState& make_state)
      : plans_(plans),
        cut_(std::move(cut)),
        names_(state_names(plans.front())),
        states_(make_states(names_, make_state)) {
    for (const OptimizerPlan& plan : plans_) rules_.push_back(detail::rule_of(plan));
    for (at::Tensor& state : states_) {
      if (rules_.front().initial != 0) state.fill_(rules_.front().initial);
      pieces_.push_back(cut_.of(state));
    }
  }

  void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            const std::vector<double>& rates) override {
    if (skip.defined() && skip.item<float>() != 0) return;
    ++steps_;
    if (divisor.defined()) gradients.div_(divisor);
    const Pieces values = cut_.of(parameters), means = cut_.of(gradients);
    for (size_t g = 0; g < cut_.groups(); ++g)
      for (size_t i = 0; i < values[g].size(); ++i) {
        OptimizerStep step = {.number = steps_,
                              .rate = rates.at(g),
                              .weight_decay = decay_of(plans_[g]),
                              .parameters = values[g][i],
                              .gradients = means[g][i],
                              .state = {}};
        for (const Pieces& pieces : pieces_) step.state.push_back(pieces[g][i]);
        rules_[g].update(step);
      }
  }
  std::string name() const override { return name_of(plans_.front()); }
  NamedState flat_state() const override { return named(names_, states_); }
  int64_t steps() const override { return steps_; }
  void set_steps(int64_t steps) override { steps_ = steps; }

 private:
  static double decay_of(const OptimizerPlan& plan) {
    return std::visit([](const auto& p) { return p.weight_decay; }, plan);
  }

  std::vector<OptimizerPlan> plans_;
  std::vector<detail::OptimizerRule> rules_;
  Cut cut_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> states_;
  std::vector<Pieces> pieces_;  // of each
  int64_t steps_ = 0;
};

class FlatSGD final : public Optimizer {
 public:
  FlatSGD(std::vector<SGD> plans, Cut cut, const MakeState& make_state)
      : plans_(std::move(plans)),
        cut_(std::move(cut)),
        momentum_(plans_.front().momentum != 0 ? make_state() : at::Tensor()),
        momentum_pieces_(momentum_.defined() ? cut_.of(momentum_) : Pieces(cut_.groups())) {}

  void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            const std::vector<double>& rates) override {
    // With dampening the first step is unlike the others. Which one that is must be known: this waits for a
    // device.
    const bool must_know = steps_ == 0 && std::ranges::any_of(plans_, [](const SGD& p) {
                             return p.dampening != 0 && p.momentum != 0;
                           });
    if (skip.defined() && (skip.is_cpu() || must_know) && skip.item<float>() != 0) return;
    const Pieces values = cut_.of(parameters), sums = cut_.of(gradients);
    for (size_t g = 0; g < cut_.groups(); ++g) {
      if (values[g].empty()) continue;
      const SGD& plan = plans_[g];
      at::_fused_sgd_(values[g], sums[g], momentum_pieces_[g], plan.weight_decay, plan.momentum, rates.at(g),
                      plan.dampening, plan.nesterov, /*maximize=*/false, /*is_first_step=*/steps_ == 0,
                      if_defined(divisor), if_defined(skip));
    }
    ++steps_;
  }
  std::string name() const override { return "SGD"; }
  std::vector<std::pair<std::string, at::Tensor>> flat_state() const override {
    return momentum_.defined() ? std::vector<std::pair<std::string, at::Tensor>>{{"momentum", momentum_}}
                               : std::vector<std::pair<std::string, at::Tensor>>{};
  }
  int64_t steps() const override { return steps_; }
  void set_steps(int64_t steps) override { steps_ = steps; }

 private:
  std::vector<SGD> plans_;
  Cut cut_;
  at::Tensor momentum_;
  Pieces momentum_pieces_;
  int64_t steps_ = 0;
};

template <class Kind>
std::vector<Kind> all_of_kind(const std::vector<OptimizerPlan>& groups) {
  std::vector<Kind> plans;
  for (const OptimizerPlan& group : groups) plans.push_back(std::get<Kind>(group));
  return plans;
}

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerPlan& plan, const at::Tensor& parameters,
                                          const MakeState& make_state) {
  return make_optimizer({plan}, {{parameters.numel(), 0}}, parameters, make_state);
}

std::unique_ptr<Optimizer> make_optimizer(const std::vector<OptimizerPlan>& groups,
                                          const std::vector<Stretch>& stretches, const at::Tensor& parameters,
                                          const MakeState& make_state) {
  if (!make_state)
    return make_optimizer(groups, stretches, parameters, [&] { return torch::zeros_like(parameters); });
  Cut cut(groups.size(), stretches);
  const OptimizerPlan& first = groups.front();
  if (std::holds_alternative<AdamW>(first))
    return std::make_unique<FlatAdam<AdamW>>(all_of_kind<AdamW>(groups), std::move(cut), parameters,
                                             make_state);
  if (std::holds_alternative<Adam>(first))
    return std::make_unique<FlatAdam<Adam>>(all_of_kind<Adam>(groups), std::move(cut), parameters,
                                            make_state);
  if (std::holds_alternative<SGD>(first))
    return std::make_unique<FlatSGD>(all_of_kind<SGD>(groups), std::move(cut), make_state);
  if (const auto* own = std::get_if<OwnOptimizer>(&first); own && (!own->update || own->name.empty()))
    throw ConfigError("an optimizer of your own needs a name and an update");
  return std::make_unique<FlatByRule>(groups, std::move(cut), make_state);
}

}  // namespace lab
