#pragma once
// From the batches of a stage to the tags and values of its metrics.

#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/callback.h"
#include "lab/train/metric.h"
#include "lab/train/ordered_sums.h"

namespace lab {

// The sums of a stage: the loss, then each metric, without numbers for one that has no sums there.
std::vector<SumColumn> columns_of(const std::vector<Metric>& metrics, MetricStage stage);

// What the metric counts of this batch. Throws ConfigError for what torch refuses, and for sums that are not
// as many as the metric says.
std::vector<at::Tensor> counted(const Metric& metric, const Parts& output, const Batch& batch);

// Adds a batch's loss and metrics to a row of such sums.
void measure(OrderedSums& sums, int64_t row, const std::vector<Metric>& metrics, const Parts& output,
             const Batch& batch, const WeightedSum& loss);

std::vector<std::string> tags_of(const Metric& metric, MetricStage stage);

// The rows of the metrics that keep samples (Collect::samples), of one evaluation.
class SampleRows {
 public:
  // Refers to the metrics.
  SampleRows(const std::vector<Metric>& metrics, int64_t samples, MetricStage stage = MetricStage::validate);
  // This rank's chunk. Throws ConfigError for rows that are not what the metric says, or too many to keep.
  void add(int64_t chunk, const Parts& output, const Batch& batch);
  // All ranks' rows of one metric in the order of the data set: (rows, numbers) doubles. Every rank must
  // call.
  at::Tensor gathered(size_t metric, Communicator& comm) const;

 private:
  struct Own {
    int64_t chunk = 0;
    at::Tensor rows;  // where it was computed
  };
  const std::vector<Metric>& metrics_;
  int64_t samples_;
  MetricStage stage_;
  std::vector<std::vector<Own>> own_;  // of each metric
};

// Adds what the metrics of a stage are by these sums and rows (null: none are kept); `each_step`: those alone
// that are wanted with steps. Throws what a metric's `values` throws. Every rank must call.
void append_values(Values& values, const std::vector<Metric>& metrics, MetricStage stage,
                   const std::vector<std::vector<double>>& totals, const SampleRows* rows, Communicator& comm,
                   bool each_step = false);

}  // namespace lab
