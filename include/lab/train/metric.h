#pragma once
// Metrics as exact weighted means over all samples of an epoch, bit-equal for any number of ranks.

#include <functional>
#include <string>
#include <vector>

#include "lab/train/loss.h"

namespace lab {

// `compute` sees one micro-batch or chunk of at least one sample, without gradients. Logged as
// "<name>/<stage>".
struct Metric {
  std::string name;
  std::function<WeightedSum(const Parts& output, const Batch& batch)> compute;
};

// Share of samples whose largest logit is the target's class; target: class indices (n) or one-hot (n,
// classes).
Metric accuracy(std::string target = "labels");
// Any function of a batch as a mean weighted by its number of samples (torch-lab's PooledMean).
Metric pooled_mean(std::string name, std::function<at::Tensor(const Parts& output, const Batch& batch)> mean);

}  // namespace lab
