#include "lab/train/evaluator.h"

#include <torch/types.h>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/ordered_sums.h"
#include "lab/train/step_plan.h"
#include "train/metric_values.h"

namespace lab {

void for_each_chunk(const Model& model, std::shared_ptr<const Source> source, int64_t samples,
                    const DataPlan& plan, const ReaderOptions& options, const Upload& upload, bool inference,
                    int rank, int ranks, const std::function<bool(const ChunkOutput&)>& visit) {
  const torch::NoGradGuard no_grad;
  const c10::InferenceMode no_tracking(inference && upload.device().is_cpu());
  const Range own = chunks_of(samples, rank, ranks);
  const bool training = model.module().is_training();
  model.module().eval();
  Reader reader(std::move(source), plan.transforms, upload.from(options),
                [next = own.first, own, samples]() mutable -> std::optional<BatchRequest> {
                  if (next == own.end()) return std::nullopt;
                  return BatchRequest{0, chunk(samples, next++)};
                });
  for (int64_t index = own.first; index < own.end(); ++index) {
    const Batch batch = upload(*reader.next());
    const Parts output = model.forward(batch);
    if (!visit({index, batch, output})) break;
  }
  model.module().train(training);
}

Prediction predict(Communicator& comm, const InferPlan& plan, std::shared_ptr<const Source> source,
                   int64_t samples, const ReaderOptions& options, const Upload& upload, bool inference) {
  Prediction prediction;
  prediction.columns = static_cast<int64_t>(plan.columns.size());
  prediction.rows.assign(static_cast<size_t>(samples * prediction.columns), 0.0);
  std::vector<Metric> metrics;
  if (plan.metric) metrics = {*plan.metric};
  OrderedSums sums(chunk_count(samples), columns_of(metrics, MetricStage::validate), upload.device());
  SampleRows kept(metrics, samples);
  for_each_chunk(
      plan.model, source, samples, plan.data, options, upload, inference, comm.rank(), comm.size(),
      [&](const ChunkOutput& chunk_output) {
        const auto& [index, batch, output] = chunk_output;
        const at::Tensor rows =
            plan.rows(output).to(torch::kCPU, torch::kFloat64).reshape({batch.count(), -1}).contiguous();
        if (rows.size(1) != prediction.columns)
          throw ConfigError("the experiment's rows have ", rows.size(1), " columns, but it names ",
                            prediction.columns);
        std::copy_n(rows.const_data_ptr<double>(), rows.numel(),
                    prediction.rows.begin() + chunk(samples, index).first * prediction.columns);
        if (plan.metric && batch.parts.has(plan.metric_needs)) {
          if (sums.has(1)) sums.add(index, 1, counted(metrics[0], output, batch));
          kept.add(index, output, batch);
          prediction.has_metric = true;
        }
        return true;
      });
  const Errand errand("predictions");
  comm.all_reduce({prediction.rows.data(), static_cast<int64_t>(prediction.rows.size()), DType::f64},
                  ReduceOp::sum);
  int64_t any = prediction.has_metric;
  comm.all_reduce({&any, 1, DType::i64}, ReduceOp::max);  // a rank without chunks does not know
  prediction.has_metric = any != 0;
  if (!prediction.has_metric) return prediction;
  Values values;
  append_values(values, metrics, MetricStage::validate, sums.totals(comm), &kept, comm);
  agree(comm, [&] {
    if (values.size() != 1)
      throw ConfigError("a prediction's metric has one value, not the ", values.size(), " of ",
                        quoted(metrics[0].name));
  });
  prediction.metric = values[0].second;
  return prediction;
}

}  // namespace lab
