#pragma once
// Losses as (sum, weight): backward runs on the sum, and the sums and weights of all ranks and micro-batches
// are added before one division. So the mean is exact for uneven shares, class weights and masks, whatever
// the rank count.

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "lab/train/parts.h"

namespace lab {

struct WeightedSum {
  at::Tensor sum;     // scalar; differentiable in a loss
  at::Tensor weight;  // scalar, same type as sum; not differentiated
};

// What a loss computes from the model's output and the batch; the batch is never empty.
using Loss = std::function<WeightedSum(const Parts& output, const Batch& batch)>;

// Mean over samples of the cross entropy of logits (n, classes) against class indices (n), i64. With
// class_weights the weighted mean, as torch.nn.CrossEntropyLoss(weight=...).
Loss cross_entropy(std::string target = "labels", std::vector<double> class_weights = {});
// Mean over all elements of the binary cross entropy of logits against targets in [0, 1] of the same shape.
Loss bce_with_logits(std::string target = "labels");
// Mean over all elements of the squared difference.
Loss mse(std::string target = "labels");

// One of several losses that a model learns by.
struct LossTerm {
  std::string name;
  Loss loss;
  double factor = 1;
};
// The sum of `factor` times each term's mean. Exact over ranks and micro-batches where the terms' weights are
// in a constant ratio, as samples and their elements are; else each term is weighted by the first one's
// weight. loss_terms() measures each.
//   const std::vector<LossTerm> terms = {{"class", cross_entropy()}, {"smooth", smoothness, 0.1}};
//   return {.loss = total(terms), .metrics = {loss_terms(terms)}, ...
Loss total(std::vector<LossTerm> terms);

}  // namespace lab
