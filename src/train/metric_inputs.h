#pragma once
// What metrics and curves read of an output and a target. All of it stays on its device, and nothing waits.

#include <string>
#include <vector>

#include "lab/train/metric.h"

namespace lab {

// Throws ConfigError for options that cannot be; `who` names the metric.
void check(const Multiclass& classes, const char* who);

// Class indices (n) of indices (n) or (n, 1), or of a one-hot target (n, classes).
at::Tensor class_targets(const at::Tensor& target);

// The output (n, classes); throws ConfigError for another shape.
const at::Tensor& class_scores(const Parts& output, int64_t classes, const char* who);
// The same as probabilities.
at::Tensor class_probabilities(const Parts& output, const Multiclass& classes, const char* who);

// Probabilities (n) of yes, and whether it is, (n) bool; throws ConfigError for shapes other than (n), (n,
// 1).
struct YesOrNo {
  at::Tensor probabilities, truth;
};
YesOrNo yes_or_no(const Parts& output, const Batch& batch, const Binary& binary, const char* who);

// How often each of so many numbers is there, or the sum of its weights: (size) doubles. Unlike torch's
// bincount without a look at the largest index, for which a GPU would have to be waited for.
at::Tensor tally(const at::Tensor& indices, int64_t size, const at::Tensor& weights = {});

// Names of classes for people: those given, or 0, 1, ...
std::vector<std::string> names_of(const Multiclass& classes);

}  // namespace lab
