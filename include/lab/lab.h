#pragma once
// All that an experiment needs. Start at src/experiments/mnist.cpp for how it is used.

#include <torch/nn.h>

#include "lab/app/experiment.h"
#include "lab/app/programs.h"
#include "lab/core/error.h"
#include "lab/data/table.h"
#include "lab/train/plan.h"
