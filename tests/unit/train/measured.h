#pragma once
// Metrics of samples in memory, computed as an evaluation on one rank does.

#include <torch/types.h>

#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/step_plan.h"
#include "train/metric_values.h"

namespace lab::test {

inline Batch labelled(at::Tensor labels) {
  Batch batch;
  batch.ids.resize(static_cast<size_t>(labels.size(0)));
  batch.parts.add("labels", std::move(labels));
  return batch;
}

inline Values measured(const Metric& metric, const at::Tensor& output, const at::Tensor& labels) {
  const auto alone = self_communicator();
  const std::vector<Metric> metrics = {metric};
  const int64_t samples = output.size(0);
  OrderedSums sums(chunk_count(samples), columns_of(metrics, MetricStage::validate));
  SampleRows rows(metrics, samples);
  for (int64_t i = 0; i < chunk_count(samples); ++i) {
    const Range at = chunk(samples, i);
    const Parts part = output.narrow(0, at.first, at.count);
    const Batch batch = labelled(labels.narrow(0, at.first, at.count));
    if (sums.has(1)) sums.add(i, 1, counted(metric, part, batch));
    rows.add(i, part, batch);
  }
  Values values;
  append_values(values, metrics, MetricStage::validate, sums.totals(*alone), &rows, *alone);
  return values;
}

// Without the tags.
inline std::vector<double> numbers_of(const Metric& metric, const at::Tensor& output,
                                      const at::Tensor& labels) {
  std::vector<double> numbers;
  for (const auto& [tag, value] : measured(metric, output, labels)) numbers.push_back(value);
  return numbers;
}

inline std::vector<std::string> tags(const Metric& metric, const at::Tensor& output,
                                     const at::Tensor& labels) {
  std::vector<std::string> tags;
  for (const auto& [tag, value] : measured(metric, output, labels)) tags.push_back(tag);
  return tags;
}

inline at::Tensor doubles(const std::vector<double>& values) {
  return torch::tensor(values, torch::kFloat64);
}
inline at::Tensor integers(const std::vector<int64_t>& values) { return torch::tensor(values, torch::kLong); }

// Rows with the largest number at these places.
inline at::Tensor choosing(const std::vector<int64_t>& classes, int64_t count) {
  return torch::eye(count, torch::kFloat64).index_select(0, integers(classes));
}

}  // namespace lab::test
