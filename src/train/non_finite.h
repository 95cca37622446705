#pragma once
// What to say when a step's gradients or loss are not finite: found by computing the step's micro-batches
// once more, with the parameters still as they were.

#include <string>
#include <vector>

#include "lab/train/plan.h"
#include "lab/train/step_plan.h"

namespace lab {

// The first thing that is not finite in this micro-batch: a part of the batch, the output, the loss or, given
// all those are fine, a parameter's gradient; with the samples. "" when all is finite.
std::string first_non_finite(const TrainPlan& plan, const Batch& batch);

}  // namespace lab
