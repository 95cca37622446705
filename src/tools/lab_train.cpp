// lab_train CONFIG.toml [options]: trains an experiment.

#include "experiments/registry.h"
#include "lab/app/programs.h"

int main(int argc, char** argv) { return lab::train_main(argc, argv, registered_experiments()); }
