#include <torch/types.h>

#include <cmath>
#include <utility>

#include "lab/core/text.h"
#include "lab/train/figure.h"
#include "train/metric_inputs.h"

namespace lab {
namespace {

constexpr auto bins = static_cast<size_t>(curve_bins);

// Of each column, negatives and then positives: how many probabilities are in each bin. (n, columns), both.
at::Tensor counts_of(const at::Tensor& probabilities, const at::Tensor& positive) {
  const int64_t columns = probabilities.size(1);
  const at::Tensor bin = (probabilities * curve_bins).to(torch::kLong).clamp(0, curve_bins - 1);
  const at::Tensor column = torch::arange(columns, bin.options());
  const at::Tensor index = (column * 2 + positive.to(torch::kLong)) * curve_bins + bin;
  return tally(index.flatten(), columns * 2 * curve_bins);
}

struct Line {
  std::vector<double> x, y;
  double area = 0;
};

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

double sum_of(std::span<const double> counts) {
  double sum = 0;
  for (const double count : counts) sum += count;
  return sum;
}

// From the highest threshold down, a point for each bin that is not empty: false positives to the right, true
// ones up. The area is that of trapezoids.
Line roc_line(std::span<const double> negatives, std::span<const double> positives) {
  const double all_negatives = sum_of(negatives), all_positives = sum_of(positives);
  Line line{{0}, {0}};
  double right = 0, up = 0;
  for (size_t bin = bins; bin-- > 0;) {
    if (negatives[bin] + positives[bin] == 0) continue;
    right += negatives[bin];
    up += positives[bin];
    line.x.push_back(share(right, all_negatives));
    line.y.push_back(share(up, all_positives));
    const size_t last = line.x.size() - 1;
    line.area += (line.x[last] - line.x[last - 1]) * (line.y[last] + line.y[last - 1]) / 2;
  }
  return line;
}

// Recall to the right, precision up. The area is that of steps.
Line precision_recall_line(std::span<const double> negatives, std::span<const double> positives) {
  const double all_positives = sum_of(positives);
  Line line{{0}, {1}};
  double wrong = 0, right = 0;
  for (size_t bin = bins; bin-- > 0;) {
    if (negatives[bin] + positives[bin] == 0) continue;
    wrong += negatives[bin];
    right += positives[bin];
    line.x.push_back(share(right, all_positives));
    line.y.push_back(right / (right + wrong));
    line.area += share(positives[bin], all_positives) * line.y.back();
  }
  return line;
}

struct Kind {
  const char *name, *x, *y, *area;
  Line (*line)(std::span<const double> negatives, std::span<const double> positives);
};
constexpr Kind roc = {"roc", "false positive rate", "true positive rate", "area", roc_line};
constexpr Kind precision_recall = {"precision_recall", "recall", "precision", "average precision",
                                   precision_recall_line};

Drawing draw(const Kind& kind, const std::vector<std::string>& names, std::span<const double> sums) {
  constexpr std::pair<double, double> all = {0, 1};
  Drawing drawing{.x = {kind.x, all}, .y = {kind.y, all}};
  for (const std::string& name : names) {
    Line line = kind.line(sums.first(bins), sums.subspan(bins, bins));
    sums = sums.subspan(2 * bins);
    const std::string area = text(kind.area, " ", shortest(std::round(line.area * 1e4) / 1e4));
    drawing.curves.push_back(
        {name.empty() ? area : text(name, " (", area, ")"), std::move(line.x), std::move(line.y)});
  }
  return drawing;
}

Figure curve(const Kind& kind, Binary binary) {
  const auto count = [&kind, binary = std::move(binary)](const Parts& output, const Batch& batch) {
    const auto [probabilities, truth] = yes_or_no(output, batch, binary, kind.name);
    return counts_of(probabilities.unsqueeze(1), truth.unsqueeze(1));
  };
  return {kind.name, 2 * curve_bins, count,
          [&kind](std::span<const double> sums) { return draw(kind, {""}, sums); }};
}

Figure curve(const Kind& kind, Multiclass classes) {
  check(classes, kind.name);
  const auto count = [&kind, classes](const Parts& output, const Batch& batch) {
    const at::Tensor probabilities = class_probabilities(output, classes, kind.name);
    const at::Tensor each = torch::arange(classes.classes, probabilities.options().dtype(torch::kLong));
    return counts_of(probabilities, class_targets(batch[classes.target]).unsqueeze(1).eq(each));
  };
  return {
      kind.name, classes.classes * 2 * curve_bins, count,
      [&kind, names = names_of(classes)](std::span<const double> sums) { return draw(kind, names, sums); }};
}

}  // namespace

Figure roc_curve(Binary binary) { return curve(roc, std::move(binary)); }
Figure roc_curve(Multiclass classes) { return curve(roc, std::move(classes)); }
Figure precision_recall_curve(Binary binary) { return curve(precision_recall, std::move(binary)); }
Figure precision_recall_curve(Multiclass classes) { return curve(precision_recall, std::move(classes)); }

}  // namespace lab
