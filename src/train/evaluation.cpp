#include "lab/train/evaluation.h"

#include <signal.h>
#include <torch/types.h>

#include <array>
#include <set>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/evaluator.h"
#include "lab/train/step_plan.h"
#include "train/explained.h"
#include "train/figure_sums.h"
#include "train/metric_values.h"

namespace lab {
namespace {

// 0, or the signal for which any rank was asked to stop. Collective.
int agreed_signal(Communicator& comm, int signal) {
  std::array<int64_t, 2> asked = {signal != 0, signal == SIGINT};
  const Errand errand("stop");
  comm.all_reduce({asked.data(), std::ssize(asked), DType::i64}, ReduceOp::max);
  return asked[0] == 0 ? 0 : asked[1] != 0 ? SIGINT : SIGTERM;
}

}  // namespace

const DataPlan& data_of(const TrainPlan& plan, MetricStage stage) {
  return stage == MetricStage::train  ? plan.train
         : stage == MetricStage::test ? plan.test_data
                                      : plan.validate;
}

int64_t samples_of(const TrainerOptions& options, MetricStage stage, const Source& source,
                   int64_t batch_size) {
  const auto limited = [&](const BatchLimit& limit, const char* key) {
    return limited_samples(limit, source.size(), batch_size, key);
  };
  if (stage == MetricStage::test) return limited(options.limit_test_batches, "limit_test_batches");
  const bool overfits = std::visit([](auto limit) { return limit > 0; }, options.overfit_batches);
  if (overfits) return limited(options.overfit_batches, "overfit_batches");
  return stage == MetricStage::train ? limited(options.limit_train_batches, "limit_train_batches")
                                     : limited(options.limit_val_batches, "limit_val_batches");
}

Measured evaluate(Communicator& comm, const TrainPlan& plan, const TrainerOptions& options,
                  const Upload& upload, const Evaluation& evaluation) {
  const auto& [stage, source, samples, chunk_finished, stop_signal] = evaluation;
  const DataPlan& data = data_of(plan, stage);
  OrderedSums sums(chunk_count(samples), columns_of(plan.metrics, stage), upload.device());
  SampleRows rows(plan.metrics, samples, stage);
  FigureSums figures(plan.figures);
  const ReaderOptions reading{static_cast<uint64_t>(options.seed), data.shuffle, options.dtype(), 2};
  const auto visit = [&](const ChunkOutput& out) {
    const WeightedSum loss = explained("loss", out.batch, [&] { return plan.loss(out.output, out.batch); });
    measure(sums, out.chunk, plan.metrics, out.output, out.batch, loss);
    rows.add(out.chunk, out.output, out.batch);
    figures.add(out.output, out.batch);
    chunk_finished(out.chunk);
    return stop_signal() == 0;
  };
  agree(comm, [&] {
    for_each_chunk(plan.model, source, samples, data, reading, upload, options.inference_mode, comm.rank(),
                   comm.size(), visit);
  });
  Measured measured{.signal = agreed_signal(comm, stop_signal())};
  if (measured.signal != 0) return measured;
  const auto totals = sums.totals(comm);
  measured.values.emplace_back(text("loss/", name_of(stage)), mean_of(totals[0]));
  append_values(measured.values, plan.metrics, stage, totals, &rows, comm);
  if (plan.figures.empty()) return measured;
  figures.all_reduce(comm);
  agree(comm, [&] { measured.figures = figures.drawn(); });
  return measured;
}

std::vector<std::string> mistakes_in_evaluation(const TrainPlan& plan, const TrainerOptions& options,
                                                MetricStage stage, const Source* source) {
  std::vector<std::string> wrong;
  if (!plan.model) wrong.push_back("the experiment's plan has no model");
  if (!plan.loss) wrong.push_back("the experiment's plan has no loss");
  if (plan.batch_size < 1)
    wrong.push_back(text("the experiment's batch_size is ", plan.batch_size, "; it must be at least 1"));
  if (!wrong.empty() || !source) return wrong;
  try {
    if (source->size() > 0 && samples_of(options, stage, *source, plan.batch_size) == 0)
      wrong.push_back(
          stage == MetricStage::test
              ? "trainer.init.limit_test_batches = 0 leaves nothing to test on; take 1 or more"
              : "trainer.init.limit_val_batches = 0 leaves nothing to validate on; take 1 or more");
  } catch (const ConfigError& e) {
    wrong.push_back(e.what());
  }
  std::set<std::string> names;
  for (const Metric& metric : plan.metrics)
    for (const std::string& tag : tags_of(metric, stage))
      if (!names.insert(tag).second)
        wrong.push_back(text("two of the experiment's metrics have the same name: ", tag,
                             "; give one another by lab::named"));
  return wrong;
}

}  // namespace lab
