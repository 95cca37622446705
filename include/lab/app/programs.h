#pragma once
// The programs, for a main of one line: return lab::train_main(argc, argv, {my_experiment()});

#include <vector>

#include "lab/app/experiment.h"

namespace lab {

// Each runs a whole program, MPI included, and returns what main returns: one of core/error.h's exit codes.
int train_main(int argc, char** argv, const std::vector<Experiment>& experiments);
int infer_main(int argc, char** argv, const std::vector<Experiment>& experiments);

// lab_sync: no MPI, no experiments.
int sync_main(int argc, char** argv);

}  // namespace lab
