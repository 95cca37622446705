#include "lab/train/figure.h"

#include <torch/types.h>

#include <utility>

#include "lab/core/error.h"

namespace lab {

Figure confusion_matrix(std::vector<std::string> classes, std::string target) {
  const auto n = std::ssize(classes);
  const auto count = [n, target = std::move(target)](const Parts& output, const Batch& batch) {
    const at::Tensor& logits = output.only();
    if (logits.dim() != 2 || logits.size(1) != n)
      throw ConfigError("confusion_matrix was given ", n, " classes, but the model's output has the shape ",
                        logits.sizes(), "; name each of its classes");
    const at::Tensor& truth = batch[target];
    const at::Tensor rows = truth.dim() == 2 ? truth.argmax(1) : truth.to(torch::kLong);
    return torch::bincount(rows * n + logits.argmax(1), {}, n * n);
  };
  const auto draw = [classes = std::move(classes)](std::span<const double> sums) {
    return Drawing{.x = {"prediction"},
                   .y = {"truth"},
                   .heat_map = HeatMap{classes, classes, {sums.begin(), sums.end()}}};
  };
  return {"confusion", n * n, count, draw};
}

}  // namespace lab
