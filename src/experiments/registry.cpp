#include "experiments/registry.h"

std::vector<lab::Experiment> registered_experiments() {
  return {
      mnist_experiment(),
  };
}
