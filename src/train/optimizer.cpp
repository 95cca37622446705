#include "lab/train/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <torch/types.h>

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

// A fused kernel takes lists of tensors, and so one call for each group.
class FlatAdamW final : public Optimizer {
 public:
  FlatAdamW(std::vector<AdamW> plans, Cut cut, const at::Tensor& parameters, const MakeState& make_state)
      : plans_(std::move(plans)),
        cut_(std::move(cut)),
        exp_avg_(make_state()),
        exp_avg_sq_(make_state()),
        exp_avg_pieces_(cut_.of(exp_avg_)),
        exp_avg_sq_pieces_(cut_.of(exp_avg_sq_)),
        steps_(torch::zeros({}, parameters.options().dtype(torch::kFloat32))) {}

  void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            const std::vector<double>& rates) override {
    steps_.add_(1);
    if (skip.defined() && !(skip.is_cpu() && skip.item<float>() == 0))
      steps_.sub_(skip);  // what is skipped is no step of the averages
    const Pieces values = cut_.of(parameters), sums = cut_.of(gradients);
    for (size_t g = 0; g < cut_.groups(); ++g) {
      if (values[g].empty()) continue;
      const AdamW& plan = plans_[g];
      const std::vector<at::Tensor> steps(values[g].size(), steps_);
      at::_fused_adamw_(values[g], sums[g], exp_avg_pieces_[g], exp_avg_sq_pieces_[g], {}, steps, rates.at(g),
                        plan.beta1, plan.beta2, plan.weight_decay, plan.eps, /*amsgrad=*/false,
                        /*maximize=*/false, if_defined(divisor), if_defined(skip));
    }
  }
  std::string name() const override { return "AdamW"; }
  std::vector<std::pair<std::string, at::Tensor>> flat_state() const override {
    return {{"exp_avg", exp_avg_}, {"exp_avg_sq", exp_avg_sq_}};
  }
  int64_t steps() const override { return steps_.item<int64_t>(); }
  void set_steps(int64_t steps) override { steps_.fill_(steps); }

 private:
  std::vector<AdamW> plans_;
  Cut cut_;
  at::Tensor exp_avg_, exp_avg_sq_;
  Pieces exp_avg_pieces_, exp_avg_sq_pieces_;
  at::Tensor steps_;
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

double base_rate(const OptimizerPlan& plan) {
  return std::visit([](const auto& p) { return p.lr; }, plan);
}

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
  if (std::holds_alternative<AdamW>(groups.front()))
    return std::make_unique<FlatAdamW>(all_of_kind<AdamW>(groups), std::move(cut), parameters, make_state);
  return std::make_unique<FlatSGD>(all_of_kind<SGD>(groups), std::move(cut), make_state);
}

}  // namespace lab
