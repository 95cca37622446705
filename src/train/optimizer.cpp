#include "lab/train/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <torch/types.h>

namespace lab {
namespace {

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

class FlatAdamW final : public Optimizer {
 public:
  FlatAdamW(const AdamW& plan, const at::Tensor& parameters, const MakeState& make_state)
      : plan_(plan),
        exp_avg_(make_state()),
        exp_avg_sq_(make_state()),
        steps_(torch::zeros({}, parameters.options().dtype(torch::kFloat32))) {}

  void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            double rate) override {
    steps_.add_(1);
    at::_fused_adamw_({parameters}, {gradients}, {exp_avg_}, {exp_avg_sq_}, {}, {steps_}, rate, plan_.beta1,
                      plan_.beta2, plan_.weight_decay, plan_.eps, /*amsgrad=*/false, /*maximize=*/false,
                      if_defined(divisor), if_defined(skip));
  }
  std::string name() const override { return "AdamW"; }
  std::vector<std::pair<std::string, at::Tensor>> flat_state() const override {
    return {{"exp_avg", exp_avg_}, {"exp_avg_sq", exp_avg_sq_}};
  }
  int64_t steps() const override { return steps_.item<int64_t>(); }
  void set_steps(int64_t steps) override { steps_.fill_(steps); }

 private:
  AdamW plan_;
  at::Tensor exp_avg_, exp_avg_sq_, steps_;
};

class FlatSGD final : public Optimizer {
 public:
  FlatSGD(const SGD& plan, const MakeState& make_state)
      : plan_(plan), momentum_(plan.momentum != 0 ? make_state() : at::Tensor()) {}

  void step(at::Tensor& parameters, at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            double rate) override {
    const std::vector<at::Tensor> momentum =
        momentum_.defined() ? std::vector{momentum_} : std::vector<at::Tensor>();
    at::_fused_sgd_({parameters}, {gradients}, momentum, plan_.weight_decay, plan_.momentum, rate,
                    plan_.dampening, plan_.nesterov, /*maximize=*/false, /*is_first_step=*/steps_ == 0,
                    if_defined(divisor), if_defined(skip));
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
  SGD plan_;
  at::Tensor momentum_;
  int64_t steps_ = 0;
};

}  // namespace

double base_rate(const OptimizerPlan& plan) {
  return std::visit([](const auto& p) { return p.lr; }, plan);
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerPlan& plan, const at::Tensor& parameters,
                                          const MakeState& make_state) {
  if (!make_state) return make_optimizer(plan, parameters, [&] { return torch::zeros_like(parameters); });
  if (const auto* adamw = std::get_if<AdamW>(&plan))
    return std::make_unique<FlatAdamW>(*adamw, parameters, make_state);
  return std::make_unique<FlatSGD>(std::get<SGD>(plan), make_state);
}

}  // namespace lab
