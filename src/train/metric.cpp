#include "lab/train/metric.h"

#include <torch/types.h>

#include "lab/core/error.h"
#include "lab/train/ordered_sums.h"
#include "train/metric_inputs.h"

namespace lab {

Metric weighted_mean(std::string name, std::function<WeightedSum(const Parts&, const Batch&)> sum) {
  return {.name = std::move(name),
          .numbers = 2,
          .count =
              [sum = std::move(sum)](const Parts& output, const Batch& batch) {
                const WeightedSum value = sum(output, batch);
                return std::vector<at::Tensor>{value.sum, value.weight};
              },
          .values = [](std::span<const double> sums) { return std::vector<double>{mean_of(sums)}; }};
}

Metric loss_terms(const std::vector<LossTerm>& terms) {
  Metric metric = {.name = "loss",
                   .numbers = 2 * std::ssize(terms),
                   .count =
                       [terms](const Parts& output, const Batch& batch) {
                         std::vector<at::Tensor> sums;
                         for (const LossTerm& term : terms) {
                           const WeightedSum value = term.loss(output, batch);
                           sums.insert(sums.end(), {value.sum, value.weight});
                         }
                         return sums;
                       },
                   .values =
                       [](std::span<const double> sums) {
                         std::vector<double> means;
                         for (size_t i = 0; i < sums.size(); i += 2)
                           means.push_back(mean_of(sums.subspan(i, 2)));
                         return means;
                       }};
  for (const LossTerm& term : terms) metric.keys.push_back(term.name);
  return metric;
}

Metric pooled_mean(std::string name,
                   std::function<at::Tensor(const Parts& output, const Batch& batch)> mean) {
  return weighted_mean(std::move(name), [mean = std::move(mean)](const Parts& output, const Batch& batch) {
    const at::Tensor value = mean(output, batch).to(at::kDouble);
    const auto count = static_cast<double>(batch.count());
    return WeightedSum{value * count, torch::full_like(value, count)};
  });
}

Metric accuracy(std::string target) {
  const auto right = [target = std::move(target)](const Parts& output, const Batch& batch) {
    const at::Tensor classes = class_targets(batch[target]);
    const at::Tensor hits = output.only().argmax(1).eq(classes).sum();
    return WeightedSum{hits, torch::full_like(hits, classes.size(0))};
  };
  Metric metric = weighted_mean("accuracy", right);
  metric.is_share = true;
  return metric;
}

Metric on(Metric metric, Preprocess preprocess) {
  const auto nothing = [numbers = metric.numbers, collect = metric.collect](const at::Tensor& like) {
    const auto options = at::TensorOptions(torch::kFloat64).device(like.device());
    if (collect == Collect::samples) return torch::zeros({0, numbers}, options);
    return torch::zeros({numbers}, options);
  };
  metric.count = [count = std::move(metric.count), preprocess = std::move(preprocess), nothing](
                     const Parts& output, const Batch& batch) -> std::vector<at::Tensor> {
    const auto [left, rest] = preprocess(output, batch);
    if (rest.count() == 0) return {nothing(output.entries().front().second)};
    return count(left, rest);
  };
  metric.is_share = false;  // of all samples
  return metric;
}

Metric named(Metric metric, std::string name) {
  metric.name = std::move(name);
  return metric;
}

Metric only_in(Metric metric, MetricStage stage) {
  if (metric.collect == Collect::samples && stage == MetricStage::train)
    throw ConfigError("the metric ", quoted(metric.name),
                      " keeps a row of each sample and is not measured in training");
  metric.only = stage;
  return metric;
}

Metric per_step(Metric metric) {
  if (metric.collect == Collect::samples || metric.only.value_or(MetricStage::train) != MetricStage::train)
    throw ConfigError("the metric ", quoted(metric.name),
                      " is not measured in training, so there is nothing of it in each step");
  metric.each_step = true;
  return metric;
}

}  // namespace lab
