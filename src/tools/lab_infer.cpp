// lab_infer CONFIG.toml [options] [--] [ARG ...]: predicts with a trained experiment.

#include "experiments/registry.h"
#include "lab/app/programs.h"

int main(int argc, char** argv) { return lab::infer_main(argc, argv, registered_experiments()); }
