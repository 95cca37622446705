#include "lab/train/loss.h"

#include <torch/nn/functional/loss.h>
#include <torch/types.h>

#include "lab/core/error.h"

namespace lab {
namespace {

namespace F = torch::nn::functional;

at::Tensor scalar_like(const at::Tensor& like, double value) {
  return torch::full({}, value, like.options().requires_grad(false));
}

// Shapes that do not fit would broadcast silently.
void require_same_shape(const char* loss, const at::Tensor& output, const at::Tensor& target,
                        const std::string& name) {
  if (output.sizes() != target.sizes())
    throw ConfigError(loss, ": the model's output has shape ", output.sizes(), " but the target \"", name,
                      "\" has ", target.sizes(), "; make them equal");
}

}  // namespace

Loss cross_entropy(std::string target, std::vector<double> class_weights) {
  return [target = std::move(target), class_weights = std::move(class_weights)](const Parts& output,
                                                                                const Batch& batch) {
    const at::Tensor& logits = output.only();
    const at::Tensor& labels = batch[target];
    if (logits.dim() != 2 || labels.dim() != 1 || labels.scalar_type() != at::kLong)
      throw ConfigError("cross_entropy wants logits (n, classes) and class indices (n), not ", logits.sizes(),
                        " and \"", target, "\" ", labels.sizes(), " of ", labels.scalar_type(),
                        "; lab::class_index makes class indices");
    auto options = F::CrossEntropyFuncOptions().reduction(torch::kSum);
    if (class_weights.empty())
      return WeightedSum{F::cross_entropy(logits, labels, options),
                         scalar_like(logits, static_cast<double>(labels.size(0)))};
    const at::Tensor weights = torch::tensor(class_weights, logits.options().requires_grad(false));
    return WeightedSum{F::cross_entropy(logits, labels, options.weight(weights)),
                       weights.index_select(0, labels).sum()};
  };
}

Loss bce_with_logits(std::string target) {
  return [target = std::move(target)](const Parts& output, const Batch& batch) {
    const at::Tensor& logits = output.only();
    require_same_shape("bce_with_logits", logits, batch[target], target);
    const auto options = F::BinaryCrossEntropyWithLogitsFuncOptions().reduction(torch::kSum);
    return WeightedSum{F::binary_cross_entropy_with_logits(logits, batch[target], options),
                       scalar_like(logits, static_cast<double>(logits.numel()))};
  };
}

Loss mse(std::string target) {
  return [target = std::move(target)](const Parts& output, const Batch& batch) {
    const at::Tensor& values = output.only();
    require_same_shape("mse", values, batch[target], target);
    return WeightedSum{F::mse_loss(values, batch[target], F::MSELossFuncOptions().reduction(torch::kSum)),
                       scalar_like(values, static_cast<double>(values.numel()))};
  };
}

Loss total(std::vector<LossTerm> terms) {
  if (terms.empty()) throw ConfigError("a total of no losses; give it one or more");
  return [terms = std::move(terms)](const Parts& output, const Batch& batch) {
    WeightedSum all;
    for (const LossTerm& term : terms) {
      const WeightedSum value = term.loss(output, batch);
      if (!all.sum.defined()) {
        all = {value.sum * term.factor, value.weight};
        continue;
      }
      const at::Tensor share = torch::where(value.weight != 0, all.weight / value.weight, 0);
      all.sum = all.sum + value.sum * (share * term.factor);
    }
    return all;
  };
}

}  // namespace lab
