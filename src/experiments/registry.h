#pragma once
// The experiments that lab_train and lab_infer know. A new one: its file beside mnist.cpp, a line here and
// one in registry.cpp.

#include <vector>

#include "lab/app/experiment.h"

lab::Experiment mnist_experiment();

std::vector<lab::Experiment> registered_experiments();
