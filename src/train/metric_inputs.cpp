#include "train/metric_inputs.h"

#include <torch/types.h>

#include "lab/core/error.h"

namespace lab {

void check(const Multiclass& classes, const char* who) {
  if (classes.classes < 2)
    throw ConfigError(who, " was given ", classes.classes, " classes; say how many there are, at least 2");
  if (classes.top_k < 1 || classes.top_k > classes.classes)
    throw ConfigError(who, " was given top_k = ", classes.top_k, "; it must be from 1 to ", classes.classes,
                      ", the number of classes");
  if (!classes.class_names.empty() && std::ssize(classes.class_names) != classes.classes)
    throw ConfigError(who, " was given ", classes.class_names.size(), " names of ", classes.classes,
                      " classes; name each, or none");
}

at::Tensor class_targets(const at::Tensor& target) {
  if (target.dim() == 2 && target.size(1) > 1) return target.argmax(1);
  return target.flatten().to(torch::kLong);
}

const at::Tensor& class_scores(const Parts& output, int64_t classes, const char* who) {
  const at::Tensor& scores = output.only();
  if (scores.dim() != 2 || scores.size(1) != classes)
    throw ConfigError(who, " was given ", classes, " classes, but the model's output has the shape ",
                      scores.sizes(), "; let it be (n, ", classes, ")");
  return scores;
}

at::Tensor class_probabilities(const Parts& output, const Multiclass& classes, const char* who) {
  const at::Tensor& scores = class_scores(output, classes.classes, who);
  return classes.logits ? scores.softmax(1) : scores;
}

YesOrNo yes_or_no(const Parts& output, const Batch& batch, const Binary& binary, const char* who) {
  const at::Tensor &scores = output.only(), &target = batch[binary.target];
  const int64_t samples = scores.dim() > 0 ? scores.size(0) : 0;
  if (scores.numel() != samples || target.numel() != samples)
    throw ConfigError(who, " of yes or no wants one number for each sample, not an output of the shape ",
                      scores.sizes(), " and \"", binary.target, "\" ", target.sizes(),
                      "; for several classes give it lab::Multiclass");
  const at::Tensor flat = scores.flatten();
  return {binary.logits ? flat.sigmoid() : flat, target.flatten().gt(0.5)};
}

at::Tensor tally(const at::Tensor& indices, int64_t size, const at::Tensor& weights) {
  const auto options = at::TensorOptions(torch::kFloat64).device(indices.device());
  const at::Tensor each =
      weights.defined() ? weights.to(torch::kFloat64) : torch::ones({indices.numel()}, options);
  return torch::zeros({size}, options).index_add_(0, indices, each);
}

std::vector<std::string> names_of(const Multiclass& classes) {
  if (!classes.class_names.empty()) return classes.class_names;
  std::vector<std::string> names;
  for (int64_t i = 0; i < classes.classes; ++i) names.push_back(std::to_string(i));
  return names;
}

}  // namespace lab
