#pragma once
// Optimizers without a fused kernel of torch's: what they do to some elements, as an optimizer of one's own
// does.

#include "lab/train/optimizer.h"

namespace lab::detail {

struct OptimizerRule {
  std::function<void(OptimizerStep& step)> update;
  double initial = 0;  // of all state
};

// Throws Bug for those that have a fused kernel.
OptimizerRule rule_of(const OptimizerPlan& plan);

}  // namespace lab::detail
