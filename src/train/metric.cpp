#include "lab/train/metric.h"

#include <torch/types.h>

namespace lab {

Metric accuracy(std::string target) {
  return {"accuracy", [target = std::move(target)](const Parts& output, const Batch& batch) {
            const at::Tensor& truth = batch[target];
            const at::Tensor classes = truth.dim() == 2 ? truth.argmax(1) : truth.to(at::kLong);
            const at::Tensor hits = output.only().argmax(1).eq(classes).sum();
            return WeightedSum{hits, torch::full_like(hits, classes.size(0))};
          }};
}

Metric pooled_mean(std::string name,
                   std::function<at::Tensor(const Parts& output, const Batch& batch)> mean) {
  return {std::move(name), [mean = std::move(mean)](const Parts& output, const Batch& batch) {
            const at::Tensor value = mean(output, batch).to(at::kDouble);
            const auto count = static_cast<double>(batch.count());
            return WeightedSum{value * count, torch::full_like(value, count)};
          }};
}

}  // namespace lab
