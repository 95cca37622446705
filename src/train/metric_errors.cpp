// How far numbers are off: mean squared and absolute errors, and the coefficient of determination.

#include <torch/types.h>

#include <cmath>
#include <limits>

#include "lab/core/error.h"
#include "lab/train/metric.h"

namespace lab {
namespace {

// In double: (n, columns). Shapes that do not fit would broadcast silently.
struct Values {
  at::Tensor output, target;
  at::Tensor errors() const { return output - target; }
};

at::Tensor in_double(const at::Tensor& tensor) {
  const at::Tensor numbers = tensor.detach().to(torch::kFloat64);
  return numbers.dim() == 1 ? numbers.unsqueeze(1) : numbers.flatten(1);
}

Values values_of(const char* who, const Parts& output, const Batch& batch, const std::string& target) {
  const at::Tensor &numbers = output.only(), &truth = batch[target];
  if (numbers.sizes() != truth.sizes() || numbers.dim() == 0)
    throw ConfigError(who, ": the model's output has shape ", numbers.sizes(), " but the target ",
                      quoted(target), " has ", truth.sizes(), "; make them equal");
  return {in_double(numbers), in_double(truth)};
}

Metric mean_error(const char* name, std::string target, at::Tensor (*of)(const at::Tensor& errors)) {
  return weighted_mean(name, [name, target = std::move(target), of](const Parts& output, const Batch& batch) {
    const at::Tensor errors = values_of(name, output, batch, target).errors();
    const at::Tensor sum = of(errors).sum();
    return WeightedSum{sum, torch::full_like(sum, errors.numel())};
  });
}

// As torchmetrics: sums of squares up to 1e-4 are taken for none.
double determination(double samples, double sum, double squares, double squared_errors) {
  const double spread = squares - sum * (sum / samples);
  const bool off = std::abs(squared_errors) > 1e-4, spreads = std::abs(spread) > 1e-4;
  if (!off) return 1;
  return spreads ? 1 - squared_errors / spread : 0;
}

}  // namespace

Metric mean_squared_error(std::string target) {
  return mean_error("mse", std::move(target), [](const at::Tensor& errors) { return errors.square(); });
}

Metric mean_absolute_error(std::string target) {
  return mean_error("mae", std::move(target), [](const at::Tensor& errors) { return errors.abs(); });
}

Metric r2_score(int64_t outputs, std::string target) {
  if (outputs < 1) throw ConfigError("r2_score was given ", outputs, " outputs; it must be at least 1");
  return {.name = "r2",
          .numbers = 1 + 3 * outputs,
          .count =
              [target = std::move(target)](const Parts& output, const Batch& batch) {
                const Values values = values_of("r2_score", output, batch, target);
                const at::Tensor sums = values.target.sum(0);
                return std::vector<at::Tensor>{torch::full({}, values.target.size(0), sums.options()), sums,
                                               values.target.square().sum(0),
                                               values.errors().square().sum(0)};
              },
          .values = [n = static_cast<size_t>(outputs)](std::span<const double> sums) -> std::vector<double> {
            if (sums[0] < 2) return {std::numeric_limits<double>::quiet_NaN()};
            double score = 0;
            for (size_t i = 1; i <= n; ++i)
              score += determination(sums[0], sums[i], sums[n + i], sums[2 * n + i]);
            return {score / static_cast<double>(n)};
          }};
}

}  // namespace lab
