#pragma once
// What of a training run must be the same on all ranks, part by part.

#include <vector>

#include "lab/comm/agreement.h"
#include "lab/data/source.h"
#include "lab/train/options.h"
#include "lab/train/plan.h"

namespace lab {

// All that can be seen of a plan from outside, for require_equal() before the trainer is made; what functions
// compute (a loss, a transform) shows by name at most. Reads the data files; throws IoError. Null: no such
// data, or it is not used. Does not communicate.
std::vector<AgreedPart> agreed_parts(const TrainPlan& plan, const TrainerOptions& options,
                                     const Source* train, const Source* validate,
                                     const Source* test = nullptr);

}  // namespace lab
