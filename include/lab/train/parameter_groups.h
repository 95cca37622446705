#pragma once
// Which parameters are trained, and which of them with values of their own.

#include <torch/nn/module.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/train/flat.h"
#include "lab/train/optimizer.h"

namespace lab {

// Whether a parameter's name is what the pattern says: '*' is any characters, '?' is one. The pattern of a
// layer stands for all that is in it: "conv1" is "conv1.weight", "conv1.bias" and so on.
bool matches(std::string_view name, std::string_view pattern);

// Parameters for which the optimizer has values of their own. The first group that a parameter is in has it.
struct ParameterGroup {
  std::string name = {};                   // of the rate in records: "lr/name"
  std::vector<std::string> patterns = {};  // of the names of parameters, each of which must match some
  // What else is in it, beside what the patterns match.
  std::function<bool(const std::string& name, const at::Tensor& parameter)> chosen = {};
  // In place of the optimizer's; the schedule's factor is that of all.
  std::optional<double> lr = {}, weight_decay = {};
  std::optional<double> beta1 = {}, beta2 = {};  // of Adam and its kin
};

// The parameters of one dimension or none, which are biases and the weights of norms, and those that the
// patterns match, without weight decay: as timm's param_groups_weight_decay.
ParameterGroup without_decay(std::vector<std::string> patterns = {});

// The optimizer's values for each group, and whose the flat parameters are. The first group has what no other
// has, and is called "rest".
struct OptimizerGroups {
  std::vector<std::string> names;
  std::vector<OptimizerPlan> plans;
  std::vector<Stretch> stretches;  // as long as the flat parameters together
};

// Throws ConfigError for a pattern that matches nothing, with the nearest names, and for groups that make no
// sense.
OptimizerGroups optimizer_groups(const OptimizerPlan& plan, const std::vector<ParameterGroup>& groups,
                                 const FlatParameters& parameters);
// The same errors, before the parameters are flat.
void check_groups(const OptimizerPlan& plan, const std::vector<ParameterGroup>& groups,
                  const torch::nn::Module& module);

// What of the stretches lies within these elements.
std::vector<Stretch> within(const std::vector<Stretch>& stretches, Range elements);

}  // namespace lab
