// Areas under curves, from the scores of all samples.

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lab/core/error.h"
#include "train/metric_inputs.h"

namespace lab {
namespace {

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

struct Scored {
  double score = 0;
  bool positive = false;
};

// One class against all others. It is a function of how many of both have each score, so whoever had which
// sample does not matter.
struct Curve {
  std::vector<Scored> samples;  // from the highest score down
  double positives = 0, negatives = 0;
};

Curve curve_of(std::vector<Scored> samples) {
  std::ranges::sort(samples, std::greater<>(), &Scored::score);
  Curve curve{std::move(samples)};
  curve.positives = static_cast<double>(std::ranges::count(curve.samples, true, &Scored::positive));
  curve.negatives = static_cast<double>(curve.samples.size()) - curve.positives;
  return curve;
}

// Of each score, from the highest down: how many positives and negatives are above it, and have it.
template <class Visit>
void for_each_score(const Curve& curve, const Visit& visit) {
  double above = 0, below = 0;  // positives and negatives
  for (auto at = curve.samples.begin(); at != curve.samples.end();) {
    double positives = 0, negatives = 0;
    for (const double score = at->score; at != curve.samples.end() && at->score == score; ++at)
      ++(at->positive ? positives : negatives);
    visit(above, below, positives, negatives);
    above += positives;
    below += negatives;
  }
}

// Trapezoids in whole numbers, divided once. Without positives or negatives 0, as torchmetrics.
double area_under_roc(const Curve& curve) {
  double twice = 0;
  for_each_score(curve, [&](double above, double, double positives, double negatives) {
    twice += negatives * (2 * above + positives);
  });
  return twice > 0 ? twice / (2 * curve.positives * curve.negatives) : 0;
}

// NaN without positives.
double average_precision_of(const Curve& curve) {
  if (curve.positives == 0) return nothing;
  double sum = 0;
  for_each_score(curve, [&](double above, double below, double positives, double negatives) {
    const double hits = above + positives;
    sum += positives / curve.positives * (hits / (hits + below + negatives));
  });
  return sum;
}

using Area = double (*)(const Curve&);

// Rows of `width` numbers, the last of which is the truth; the scores of a class against all others.
Curve curve_of_class(std::span<const double> rows, size_t width, size_t column, double truth) {
  std::vector<Scored> samples;
  samples.reserve(rows.size() / width);
  for (size_t at = 0; at < rows.size(); at += width)
    samples.push_back({rows[at + column], rows[at + width - 1] == truth});
  return curve_of(std::move(samples));
}

bool has_nan(std::span<const double> rows) {
  return std::ranges::any_of(rows, [](double number) { return std::isnan(number); });
}

std::vector<double> areas_of(const Multiclass& classes, Area area, std::span<const double> rows) {
  const auto n = static_cast<size_t>(classes.classes);
  if (rows.empty() || has_nan(rows))
    return std::vector<double>(classes.average == Average::none ? n : 1, nothing);
  double sum = 0, weights = 0;
  std::vector<double> values;
  bool only_first =
      true;  // torchmetrics takes labels that are all 0 for "no positive", whichever class it is
  for (size_t at = n; at < rows.size(); at += n + 1) only_first = only_first && rows[at] == 0;
  for (size_t c = 0; c < n; ++c) {
    const Curve curve = curve_of_class(rows, n + 1, c, static_cast<double>(c));
    double value = area(curve);
    if (std::isnan(value) && only_first) value = 0;
    const double weight = classes.average == Average::weighted ? curve.positives : 1;
    if (!std::isnan(value)) sum += weight * value, weights += weight;
    values.push_back(value);
  }
  if (classes.average == Average::none) return values;
  return {weights > 0 ? sum / weights : nothing};
}

Metric area_metric(const char* name, Area area, Multiclass classes) {
  check(classes, name);
  if (classes.average == Average::micro)
    throw ConfigError(name, " has no micro average; take macro, weighted or none");
  std::vector<std::string> keys;
  if (classes.average == Average::none) keys = names_of(classes);
  return {.name = name,
          .numbers = classes.classes + 1,
          .count =
              [name, classes](const Parts& output, const Batch& batch) {
                return std::vector<at::Tensor>{class_probabilities(output, classes, name),
                                               class_targets(batch[classes.target])};
              },
          .values = [area, classes](std::span<const double> rows) { return areas_of(classes, area, rows); },
          .collect = Collect::samples,
          .keys = std::move(keys)};
}

Metric area_metric(const char* name, Area area, Binary binary) {
  return {.name = name,
          .numbers = 2,
          .count =
              [name, binary = std::move(binary)](const Parts& output, const Batch& batch) {
                const auto [probabilities, truth] = yes_or_no(output, batch, binary, name);
                return std::vector<at::Tensor>{probabilities, truth};
              },
          .values = [area](std::span<const double> rows) -> std::vector<double> {
            if (rows.empty() || has_nan(rows)) return {nothing};
            const double value = area(curve_of_class(rows, 2, 0, 1));
            return {std::isnan(value) ? 0 : value};
          },
          .collect = Collect::samples};
}

}  // namespace

Metric auroc(Multiclass classes) { return area_metric("auroc", area_under_roc, std::move(classes)); }
Metric auroc(Binary binary) { return area_metric("auroc", area_under_roc, std::move(binary)); }
Metric average_precision(Multiclass classes) {
  return area_metric("average_precision", average_precision_of, std::move(classes));
}
Metric average_precision(Binary binary) {
  return area_metric("average_precision", average_precision_of, std::move(binary));
}

}  // namespace lab
