#include "lab/train/parameter_groups.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "lab/core/error.h"
#include "train/name_patterns.h"

namespace lab {
namespace {

bool is_in(const ParameterGroup& group, const NamedTensor& parameter) {
  return std::ranges::any_of(group.patterns,
                             [&](const auto& pattern) { return matches(parameter.name, pattern); }) ||
         (group.chosen && group.chosen(parameter.name, parameter.tensor));
}

// 0: in none.
size_t group_of(const std::vector<ParameterGroup>& groups, const NamedTensor& parameter) {
  const auto found = std::ranges::find_if(groups, [&](const auto& group) { return is_in(group, parameter); });
  return found == groups.end() ? 0 : static_cast<size_t>(found - groups.begin()) + 1;
}

OptimizerPlan plan_of(OptimizerPlan plan, const ParameterGroup& group) {
  std::visit(
      [&](auto& own) {
        own.lr = group.lr.value_or(own.lr);
        own.weight_decay = group.weight_decay.value_or(own.weight_decay);
        if constexpr (requires { own.beta1; }) {
          own.beta1 = group.beta1.value_or(own.beta1);
          own.beta2 = group.beta2.value_or(own.beta2);
        } else if (group.beta1 || group.beta2) {
          throw ConfigError("the group of parameters ", quoted(group.name), " has a beta, which ",
                            name_of(own), " does not have; take it out");
        }
      },
      plan);
  return plan;
}

// Behind the last stretch, or as more of it.
void append(std::vector<Stretch>& stretches, Stretch next) {
  if (next.count == 0) return;
  if (!stretches.empty() && stretches.back().group == next.group)
    stretches.back().count += next.count;
  else
    stretches.push_back(next);
}

}  // namespace

ParameterGroup without_decay(std::vector<std::string> patterns) {
  return {.name = "no_decay",
          .patterns = std::move(patterns),
          .chosen = [](const std::string&, const at::Tensor& parameter) { return parameter.dim() <= 1; },
          .weight_decay = 0};
}

void check_groups(const OptimizerPlan& plan, const std::vector<ParameterGroup>& groups,
                  const torch::nn::Module& module) {
  std::set<std::string> names = {"", "rest"};
  for (const ParameterGroup& group : groups) {
    if (!names.insert(group.name).second)
      throw ConfigError("a group of parameters is called ", quoted(group.name),
                        "; give each a name of its own, which is not \"rest\"");
    if (group.patterns.empty() && !group.chosen)
      throw ConfigError("the group of parameters ", quoted(group.name),
                        " says of no parameter that it is in it; give it patterns, or a function");
    require_matches(group.patterns, module, text("the group of parameters ", quoted(group.name), " has"));
    plan_of(plan, group);
  }
}

OptimizerGroups optimizer_groups(const OptimizerPlan& plan, const std::vector<ParameterGroup>& groups,
                                 const FlatParameters& parameters) {
  OptimizerGroups out{{"rest"}, {plan}, {}};
  for (const ParameterGroup& group : groups) {
    out.names.push_back(group.name);
    out.plans.push_back(plan_of(plan, group));
  }
  // A gap goes with the slot before it: so stretches end where vectors of the processor do, and elements get
  // the bits that they would get in one stretch.
  const auto& slots = parameters.slots();
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t end = i + 1 < slots.size() ? slots[i + 1].elements.first : parameters.size();
    append(out.stretches,
           {end - slots[i].elements.first, group_of(groups, {slots[i].name, slots[i].parameter})});
  }
  return out;
}

std::vector<Stretch> within(const std::vector<Stretch>& stretches, Range elements) {
  std::vector<Stretch> out;
  int64_t first = 0;
  for (const auto& [count, group] : stretches) {
    append(out, {overlap({first, count}, elements).count, group});
    first += count;
  }
  return out;
}

}  // namespace lab
