// What optimizers are called, what sets them apart, and what they keep.

#include "lab/core/text.h"
#include "lab/train/optimizer.h"

namespace lab {
namespace {

using Value = std::pair<const char*, double>;
using Words = std::pair<const char*, std::vector<Value>>;  // the name and the values, but for rate and decay

Words words(const AdamW& p) {
  return {"AdamW", {{"beta1", p.beta1}, {"beta2", p.beta2}, {"eps", p.eps}, {"amsgrad", p.amsgrad}}};
}
Words words(const Adam& p) {
  return {"Adam", {{"beta1", p.beta1}, {"beta2", p.beta2}, {"eps", p.eps}, {"amsgrad", p.amsgrad}}};
}
Words words(const SGD& p) {
  return {"SGD", {{"momentum", p.momentum}, {"dampening", p.dampening}, {"nesterov", p.nesterov}}};
}
Words words(const Adagrad& p) {
  return {"Adagrad",
          {{"rate decay", p.lr_decay}, {"initial accumulator", p.initial_accumulator}, {"eps", p.eps}}};
}
Words words(const RMSprop& p) {
  return {"RMSprop",
          {{"alpha", p.alpha}, {"eps", p.eps}, {"momentum", p.momentum}, {"centered", p.centered}}};
}
Words words(const Adadelta& p) { return {"Adadelta", {{"rho", p.rho}, {"eps", p.eps}}}; }
Words words(const Adamax& p) { return {"Adamax", {{"beta1", p.beta1}, {"beta2", p.beta2}, {"eps", p.eps}}}; }
Words words(const NAdam& p) {
  return {"NAdam",
          {{"beta1", p.beta1},
           {"beta2", p.beta2},
           {"eps", p.eps},
           {"momentum decay", p.momentum_decay},
           {"decoupled", p.decoupled}}};
}
Words words(const RAdam& p) {
  return {"RAdam", {{"beta1", p.beta1}, {"beta2", p.beta2}, {"eps", p.eps}, {"decoupled", p.decoupled}}};
}
Words words(const OwnOptimizer& p) { return {p.name.c_str(), {}}; }

using Names = std::vector<std::string>;
Names adams_names(bool amsgrad) {
  return amsgrad ? Names{"exp_avg", "exp_avg_sq", "max_exp_avg_sq"} : Names{"exp_avg", "exp_avg_sq"};
}
Names names(const AdamW& p) { return adams_names(p.amsgrad); }
Names names(const Adam& p) { return adams_names(p.amsgrad); }
Names names(const SGD& p) { return p.momentum != 0 ? Names{"momentum"} : Names(); }
Names names(const Adagrad&) { return {"sum"}; }
Names names(const RMSprop& p) {
  Names out = {"square_avg"};
  if (p.centered) out.push_back("grad_avg");
  if (p.momentum != 0) out.push_back("momentum_buffer");
  return out;
}
Names names(const Adadelta&) { return {"square_avg", "acc_delta"}; }
Names names(const Adamax&) { return {"exp_avg", "exp_inf"}; }
Names names(const NAdam&) { return adams_names(false); }
Names names(const RAdam&) { return adams_names(false); }
Names names(const OwnOptimizer& p) { return p.state; }

}  // namespace

double base_rate(const OptimizerPlan& plan) {
  return std::visit([](const auto& p) { return p.lr; }, plan);
}

std::string name_of(const OptimizerPlan& plan) {
  return std::visit([](const auto& p) { return std::string(words(p).first); }, plan);
}

std::string in_words(const OptimizerPlan& plan) {
  return std::visit(
      [](const auto& p) {
        const auto [name, values] = words(p);
        std::string out = text(name, "\nrate ", shortest(p.lr), "\nweight decay ", shortest(p.weight_decay));
        for (const auto& [value_name, value] : values) out += text('\n', value_name, ' ', shortest(value));
        if constexpr (requires { p.settings; }) out += text('\n', p.settings);
        return out;
      },
      plan);
}

std::vector<std::string> state_names(const OptimizerPlan& plan) {
  return std::visit([](const auto& p) { return names(p); }, plan);
}

}  // namespace lab
