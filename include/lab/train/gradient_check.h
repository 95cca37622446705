#pragma once
// The gradient that all ranks make of a step, held against that of its samples at once in one process.

#include <span>
#include <string>
#include <vector>

#include "lab/core/dtype.h"
#include "lab/train/options.h"

namespace lab {

struct GradientDifference {
  std::string parameter;
  double relative = 0;  // L2 norm of the difference over that of the gradient; NaN: not finite
  bool ok = false;
};

// Of one step of the first epoch.
struct GradientComparison {
  int64_t step = 0, samples = 0, batches = 0;
  std::vector<GradientDifference> parameters;  // in the model's order
};

// Whether BatchNorm is compared in training mode, over all ranks: with sync_batchnorm, where a step is one
// batch, in 64-bit floats. (Its backward cancels so many digits that in 32-bit ones PyTorch's own ways to
// compute it are further apart than the tolerance.)
bool compares_batch_norm(const TrainerOptions& options);

// The largest `relative` that rounding explains, of gradients that take these types on their way: 1e-12 of
// 64-bit floats, 1e-5 of 32-bit ones, 2.5e-3 of f16, 2e-2 of bf16; where BatchNorm is compared 1e-9 at least,
// as torch's adds all values of a channel one after the other. Of a gradient that is small
// beside the others' (below 1 % of the norm of all) it is a share of that 1 %: what cancels out leaves
// nothing but rounding.
double gradient_tolerance(const TrainerOptions& options, std::span<const DType> types);

// A table for people; ends with a line break.
std::string table_of(const GradientComparison& comparison);

// Throws Bug with the parameters whose gradients differ.
void require_no_difference(const std::vector<GradientComparison>& comparisons);

}  // namespace lab
