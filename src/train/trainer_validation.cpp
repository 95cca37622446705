// What a model is worth: the first validation, and each epoch's.

#include "lab/train/evaluation.h"
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
  const Evaluation evaluation{
      .stage = MetricStage::validate,
      .source = context.validate,
      .samples = count,
      .chunk_finished = [this](int64_t chunk) { tell(&Callback::validation_chunk_finished, chunk); },
      .stop_signal = context.stop_signal};
  Measured measured = lab::evaluate(comm, plan, options, upload, evaluation);
  if (measured.signal != 0) {
    done.signal = measured.signal;
    return false;
  }
  report.values.insert(report.values.end(), measured.values.begin(), measured.values.end());
  report.figures = std::move(measured.figures);
  tell<const Values&>(&Callback::validation_finished, report.values);
  return true;
}

// Whether the last step ended such a stretch of the epoch, but not the epoch. Where batches make one step, in
// that which the last of them is in.
bool Trainer::State::validation_due() const {
  if (!context.validate || at_epoch_end() || (epoch() + 1) % options.check_val_every_n_epoch != 0)
    return false;
  const int64_t done_batches = steps % epoch_steps * numerics.accumulate;
  return done_batches / batches_between_validations !=
         (done_batches - numerics.accumulate) / batches_between_validations;
}

void Trainer::State::validate_within_epoch() {
  EpochReport report{.epoch = epoch(), .step = steps};
  if (!validate(report, validation_samples)) return;
  tell<const EpochReport&>(&Callback::validation_within_epoch_finished, report);
  set_training(plan.model.module(), plan.freeze);
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
