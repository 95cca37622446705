// What a model is worth: the first validation, and each epoch's.

#include <signal.h>
#include <torch/types.h>

#include <array>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/train/evaluator.h"
#include "train/figure_sums.h"
#include "train/metric_values.h"
#include "train/trainer_state.h"

namespace lab {

// Of the first `count` samples, with the weights' average in their place where the plan asks for it.
bool Trainer::State::validate(EpochReport& report, int64_t count) {
  if (!plan.ema || !plan.ema->validate || !context.validate) return evaluate(report, count);
  optimizer.exchange_with_average();
  const bool measured = evaluate(report, count);
  optimizer.exchange_with_average();
  return measured;
}

// What the first validation and each epoch's measure. False: stopped on the way, nothing was measured.
bool Trainer::State::evaluate(EpochReport& report, int64_t count) {
  buffers.combine_into_module(buffers.gathered(comm));
  if (!context.validate) return true;
  tell(&Callback::validation_started, count);
  OrderedSums sums(chunk_count(count), columns_of(plan.metrics, MetricStage::validate), upload.device());
  SampleRows rows(plan.metrics, count);
  FigureSums figures(plan.figures);
  agree(comm, [&] {
    for_each_chunk(plan.model, context.validate, count, plan.validate, reader_options(plan.validate.shuffle),
                   upload, options.inference_mode, comm.rank(), comm.size(), [&](const ChunkOutput& out) {
                     measure(sums, out.chunk, out.output, out.batch, loss_of(out.output, out.batch));
                     rows.add(out.chunk, out.output, out.batch);
                     figures.add(out.output, out.batch);
                     tell(&Callback::validation_chunk_finished, out.chunk);
                     return context.stop_signal() == 0;
                   });
  });
  if (stop_agreed()) return false;
  const auto totals = sums.totals(comm);
  report.values.emplace_back("loss/validate", mean_of(totals[0]));
  append_values(report.values, plan.metrics, MetricStage::validate, totals, &rows, comm);
  tell<const Values&>(&Callback::validation_finished, report.values);
  if (plan.figures.empty()) return true;
  figures.all_reduce(comm);
  agree(comm, [&] { report.figures = figures.drawn(); });
  return true;
}

// Whether any rank was asked to stop; then all know the signal.
bool Trainer::State::stop_agreed() {
  const int signal = context.stop_signal();
  std::array<int64_t, 2> asked = {signal != 0, signal == SIGINT};
  const Errand errand("stop");
  comm.all_reduce({asked.data(), std::ssize(asked), DType::i64}, ReduceOp::max);
  if (asked[0] != 0) done.signal = asked[1] != 0 ? SIGINT : SIGTERM;
  return asked[0] != 0;
}

void Trainer::State::first_validation() {
  EpochReport report;
  const int64_t most = options.num_sanity_val_steps;
  const int64_t count =
      most < 0 ? validation_samples
               : limited_samples(most, validation_samples, plan.batch_size, "num_sanity_val_steps");
  if (!validate(report, count)) return;
  tell(&Callback::first_validation_finished, report);
  if (steps == 0) epoch_finished = true;
}

}  // namespace lab
