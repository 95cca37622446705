// Accuracy, precision, recall, F1 and confusion counts: ratios of whole numbers.

#include <torch/types.h>

#include <limits>
#include <numeric>

#include "lab/core/error.h"
#include "train/metric_inputs.h"

namespace lab {
namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

enum class Ratio { accuracy, precision, recall, f1 };

const char* name_of(Ratio ratio) {
  switch (ratio) {
    case Ratio::accuracy:
      return "accuracy";
    case Ratio::precision:
      return "precision";
    case Ratio::recall:
      return "recall";
    case Ratio::f1:
      return "f1";
  }
  return "";
}

double divided(double a, double b) { return b != 0 ? a / b : 0; }

// How often a class was hit, predicted, and there.
struct Class {
  double hits = 0, predicted = 0, there = 0;
  Class& operator+=(const Class& other) {
    hits += other.hits;
    predicted += other.predicted;
    there += other.there;
    return *this;
  }
};

double value_of(Ratio ratio, const Class& c) {
  if (ratio == Ratio::precision) return divided(c.hits, c.predicted);
  if (ratio == Ratio::f1) return divided(2 * c.hits, c.predicted + c.there);
  return divided(c.hits, c.there);
}

// What counts in a mean over classes: torchmetrics' f1 leaves out the same classes whatever top_k is.
double weight_of(Ratio ratio, const Multiclass& classes, const Class& c) {
  if (classes.average == Average::weighted) return c.there;
  const bool by_prediction = classes.top_k == 1 || ratio == Ratio::f1;
  return c.there > 0 || (by_prediction && c.predicted > 0) ? 1 : 0;
}

std::vector<double> values_of(Ratio ratio, const Multiclass& classes, std::span<const double> sums) {
  const auto n = static_cast<size_t>(classes.classes);
  Class all;
  double sum = 0, weights = 0;
  std::vector<double> values;
  for (size_t i = 0; i < n; ++i) {
    const Class c{sums[i], sums[n + i], sums[2 * n + i]};
    const double weight = weight_of(ratio, classes, c);
    all += c;
    sum += weight * value_of(ratio, c);
    weights += weight;
    values.push_back(value_of(ratio, c));
  }
  if (all.there == 0) return std::vector<double>(classes.average == Average::none ? n : 1, nothing);
  if (classes.average == Average::none) return values;
  return {classes.average == Average::micro ? value_of(ratio, all) : divided(sum, weights)};
}

// Whether the truth is among the k largest: then it counts as predicted, else the largest does.
at::Tensor predictions_of(const at::Tensor& scores, const at::Tensor& truth, int64_t top_k) {
  if (top_k == 1) return scores.argmax(1);
  const at::Tensor top = std::get<1>(scores.topk(top_k, 1));
  return torch::where(top.eq(truth.unsqueeze(1)).any(1), truth, top.select(1, 0));
}

Metric ratio_of(Ratio ratio, Multiclass classes) {
  check(classes, name_of(ratio));
  const int64_t n = classes.classes;
  std::vector<std::string> keys;
  if (classes.average == Average::none) keys = names_of(classes);
  return {
      .name = name_of(ratio),
      .numbers = 3 * n,
      .count =
          [ratio, n, top_k = classes.top_k, target = classes.target](const Parts& output,
                                                                     const Batch& batch) {
            const at::Tensor& scores = class_scores(output, n, name_of(ratio));
            const at::Tensor truth = class_targets(batch[target]);
            const at::Tensor predicted = predictions_of(scores, truth, top_k);
            return std::vector<at::Tensor>{tally(truth, n, predicted.eq(truth)), tally(predicted, n),
                                           tally(truth, n)};
          },
      .values = [ratio, classes](std::span<const double> sums) { return values_of(ratio, classes, sums); },
      .collect = Collect::counts,
      .keys = std::move(keys)};
}

// Hits, predicted, there, samples.
Metric ratio_of(Ratio ratio, Binary binary) {
  return {.name = name_of(ratio),
          .numbers = 4,
          .count =
              [ratio, binary = std::move(binary)](const Parts& output, const Batch& batch) {
                const auto [probabilities, truth] = yes_or_no(output, batch, binary, name_of(ratio));
                const at::Tensor yes = probabilities.gt(binary.threshold),
                                 hits = yes.logical_and(truth).sum();
                return std::vector<at::Tensor>{hits, yes.sum(), truth.sum(),
                                               torch::full_like(hits, truth.numel())};
              },
          .values = [ratio](std::span<const double> sums) -> std::vector<double> {
            const double hits = sums[0], predicted = sums[1], there = sums[2], samples = sums[3];
            if (samples == 0) return {nothing};
            if (ratio == Ratio::accuracy) return {(samples - predicted - there + 2 * hits) / samples};
            return {value_of(ratio, {hits, predicted, there})};
          },
          .collect = Collect::counts};
}

std::vector<double> as_they_are(std::span<const double> sums) { return {sums.begin(), sums.end()}; }

// How often each row (truth) met each column (prediction).
at::Tensor pairs(const at::Tensor& truth, const at::Tensor& predicted, int64_t classes) {
  return tally(truth.to(torch::kLong) * classes + predicted.to(torch::kLong), classes * classes);
}

}  // namespace

Metric accuracy(Multiclass classes) {
  const bool is_share = classes.average == Average::micro;
  Metric metric = ratio_of(Ratio::accuracy, std::move(classes));
  metric.is_share = is_share;
  return metric;
}

Metric accuracy(Binary binary) {
  Metric metric = ratio_of(Ratio::accuracy, std::move(binary));
  metric.is_share = true;
  return metric;
}

Metric precision(Multiclass classes) { return ratio_of(Ratio::precision, std::move(classes)); }
Metric precision(Binary binary) { return ratio_of(Ratio::precision, std::move(binary)); }
Metric recall(Multiclass classes) { return ratio_of(Ratio::recall, std::move(classes)); }
Metric recall(Binary binary) { return ratio_of(Ratio::recall, std::move(binary)); }
Metric f1(Multiclass classes) { return ratio_of(Ratio::f1, std::move(classes)); }
Metric f1(Binary binary) { return ratio_of(Ratio::f1, std::move(binary)); }

Metric confusion_counts(Multiclass classes) {
  check(classes, "confusion_counts");
  const auto names = names_of(classes);
  std::vector<std::string> keys;
  for (const auto& truth : names)
    for (const auto& prediction : names) keys.push_back(text(truth, " as ", prediction));
  return {.name = "confusion",
          .numbers = classes.classes * classes.classes,
          .count =
              [n = classes.classes, target = classes.target](const Parts& output, const Batch& batch) {
                const at::Tensor predicted = class_scores(output, n, "confusion_counts").argmax(1);
                return std::vector<at::Tensor>{pairs(class_targets(batch[target]), predicted, n)};
              },
          .values = as_they_are,
          .collect = Collect::counts,
          .keys = std::move(keys)};
}

Metric confusion_counts(Binary binary) {
  return {.name = "confusion",
          .numbers = 4,
          .count =
              [binary = std::move(binary)](const Parts& output, const Batch& batch) {
                const auto [probabilities, truth] = yes_or_no(output, batch, binary, "confusion_counts");
                return std::vector<at::Tensor>{pairs(truth, probabilities.gt(binary.threshold), 2)};
              },
          .values = as_they_are,
          .collect = Collect::counts,
          .keys = {"tn", "fp", "fn", "tp"}};
}

}  // namespace lab
