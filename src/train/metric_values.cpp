#include "train/metric_values.h"

#include <torch/types.h>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"
#include "train/explained.h"

namespace lab {
namespace {

bool has_sums(const Metric& metric, MetricStage stage) {
  return metric.collect != Collect::samples && metric.only.value_or(stage) == stage;
}

bool keeps_samples(const Metric& metric, MetricStage stage) {
  return metric.collect == Collect::samples && stage != MetricStage::train &&
         metric.only.value_or(stage) == stage;
}

// A copy, as batches and outputs may lie in memory that is used again.
at::Tensor side_by_side(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> columns;
  for (const at::Tensor& tensor : tensors)
    columns.push_back((tensor.dim() == 1 ? tensor.unsqueeze(1) : tensor).detach().to(torch::kFloat64));
  return torch::cat(columns, 1);
}

}  // namespace

const char* name_of(MetricStage stage) {
  return stage == MetricStage::train ? "train" : stage == MetricStage::validate ? "validate" : "test";
}

void measure(OrderedSums& sums, int64_t row, const std::vector<Metric>& metrics, const Parts& output,
             const Batch& batch, const WeightedSum& loss) {
  const torch::NoGradGuard no_grad;
  sums.add(row, 0, loss);
  for (size_t i = 0; i < metrics.size(); ++i)
    if (sums.has(1 + i)) sums.add(row, 1 + i, counted(metrics[i], output, batch));
}

std::vector<SumColumn> columns_of(const std::vector<Metric>& metrics, MetricStage stage) {
  std::vector<SumColumn> columns = {{2}};
  for (const Metric& metric : metrics)
    columns.push_back({has_sums(metric, stage) ? metric.numbers : 0, metric.collect == Collect::counts});
  return columns;
}

std::vector<at::Tensor> counted(const Metric& metric, const Parts& output, const Batch& batch) {
  const std::string what = "metric " + quoted(metric.name);
  auto numbers = explained(what.c_str(), batch, [&] { return metric.count(output, batch); });
  if (metric.collect == Collect::samples) return numbers;
  int64_t found = 0;
  for (const at::Tensor& tensor : numbers) found += tensor.numel();
  if (found != metric.numbers)
    throw ConfigError("the experiment's ", what, " counted ", found, " numbers for a batch, but says ",
                      metric.numbers, "; let both be the same");
  return numbers;
}

std::vector<std::string> tags_of(const Metric& metric, MetricStage stage) {
  if (!has_sums(metric, stage) && !keeps_samples(metric, stage)) return {};
  if (metric.keys.empty()) return {text(metric.name, "/", name_of(stage))};
  std::vector<std::string> tags;
  for (const std::string& key : metric.keys)
    tags.push_back(text(metric.name, " (", name_of(stage), ")/", key));
  return tags;
}

SampleRows::SampleRows(const std::vector<Metric>& metrics, int64_t samples, MetricStage stage)
    : metrics_(metrics), samples_(samples), stage_(stage), own_(metrics.size()) {}

void SampleRows::add(int64_t chunk, const Parts& output, const Batch& batch) {
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < metrics_.size(); ++i) {
    const Metric& metric = metrics_[i];
    if (!keeps_samples(metric, stage_)) continue;
    if (samples_ > most_kept_numbers / metric.numbers)
      throw ConfigError("the experiment's metric ", quoted(metric.name), " would keep ", metric.numbers,
                        " numbers for each of ", samples_, " samples on every rank, and at most ",
                        most_kept_numbers, " can be kept; validate on fewer samples, or leave it out");
    at::Tensor rows =
        explained("metric", batch, [&] { return side_by_side(counted(metric, output, batch)); });
    if (rows.size(1) != metric.numbers || rows.size(0) > batch.count())
      throw ConfigError("the experiment's metric ", quoted(metric.name), " has ", rows.size(0), " rows of ",
                        rows.size(1), " numbers for ", batch.count(), " samples, but says ", metric.numbers,
                        " numbers for each; let both be the same");
    own_[i].push_back({chunk, std::move(rows)});
  }
}

at::Tensor SampleRows::gathered(size_t metric, Communicator& comm) const {
  const at::Tensor all = torch::zeros({samples_, metrics_[metric].numbers}, torch::kFloat64);
  const at::Tensor counts = torch::zeros({chunk_count(samples_)}, torch::kLong);  // rows of each chunk
  for (const auto& [chunk, rows] : own_[metric]) {
    all.narrow(0, chunk * chunk_positions, rows.size(0)).copy_(rows);
    counts[chunk] = rows.size(0);
  }
  const Errand errand("scores");
  comm.all_reduce(as_buffer(all), ReduceOp::sum);  // one rank's value + zeros
  comm.all_reduce(as_buffer(counts), ReduceOp::sum);
  int64_t end = 0;
  for (int64_t chunk = 0; chunk < counts.size(0); ++chunk) {  // closes the gaps, in place
    const auto count = counts.const_data_ptr<int64_t>()[chunk], first = chunk * chunk_positions;
    if (first != end && count > 0) all.narrow(0, end, count).copy_(all.narrow(0, first, count).clone());
    end += count;
  }
  return all.narrow(0, 0, end);
}

void append_values(Values& values, const std::vector<Metric>& metrics, MetricStage stage,
                   const std::vector<std::vector<double>>& totals, const SampleRows* rows, Communicator& comm,
                   bool each_step) {
  for (size_t i = 0; i < metrics.size(); ++i) {
    const Metric& metric = metrics[i];
    const auto tags = tags_of(metric, stage);
    if (tags.empty() || (each_step && !metric.each_step)) continue;
    std::span<const double> numbers = totals[i + 1];
    at::Tensor kept;
    if (metric.collect == Collect::samples) {
      kept = rows->gathered(i, comm);
      numbers = {kept.const_data_ptr<double>(), static_cast<size_t>(kept.numel())};
    }
    agree(comm, [&] {
      const auto found = metric.values(numbers);
      if (found.size() != tags.size())
        throw ConfigError("the experiment's metric ", quoted(metric.name), " has ", found.size(),
                          " values for the tags ", join(tags), "; let both be the same");
      for (size_t t = 0; t < tags.size(); ++t) values.emplace_back(tags[t], found[t]);
    });
  }
}

}  // namespace lab
