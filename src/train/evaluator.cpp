#include "lab/train/evaluator.h"

#include <torch/types.h>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/ordered_sums.h"
#include "lab/train/step_plan.h"

namespace lab {

void for_each_chunk(const Model& model, std::shared_ptr<const Source> source, const DataPlan& plan,
                    const ReaderOptions& options, const Upload& upload, int rank, int ranks,
                    const std::function<bool(const ChunkOutput&)>& visit) {
  const torch::NoGradGuard no_grad;
  const int64_t samples = source->size();
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
                   const ReaderOptions& options, const Upload& upload) {
  const int64_t samples = source->size();
  Prediction prediction;
  prediction.columns = static_cast<int64_t>(plan.columns.size());
  prediction.rows.assign(static_cast<size_t>(samples * prediction.columns), 0.0);
  OrderedSums sums(chunk_count(samples), 1, upload.device());
  for_each_chunk(
      plan.model, source, plan.data, options, upload, comm.rank(), comm.size(),
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
          sums.add(index, 0, plan.metric->compute(output, batch));
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
  if (prediction.has_metric) prediction.metric = sums.means(comm).front();
  return prediction;
}

}  // namespace lab
