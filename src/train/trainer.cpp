#include "lab/train/trainer.h"

#include <signal.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/evaluator.h"
#include "lab/train/model_summary.h"
#include "lab/train/seed.h"
#include "lab/train/tensor_buffer.h"
#include "train/explained.h"
#include "train/figure_sums.h"
#include "train/metric_values.h"
#include "train/non_finite.h"
#include "train/trainer_state.h"

namespace lab {
namespace {

std::string place_of(const MicroBatch& micro_batch, int64_t epoch) {
  return text("batch ", micro_batch.batch, " of epoch ", epoch);
}

}  // namespace

// Gives the device the next optimizer step to do.
void Trainer::State::launch_step() {
  const StepSums sums = sums_of(steps);
  const std::vector<double> rates = rates_at(steps);
  skip = in_flight.empty() ? sums.skip : at::maximum(skip, sums.skip);
  optimizer.step(sums.gradients, clip(sums), skip, rates);
  in_flight.push_back({steps, rates.front(), Arriving(sums.facts)});
  ++steps;
}

// Waits for what the oldest steps have to tell, but for so many of the newest.
void Trainer::State::settle(size_t still_in_flight) {
  while (in_flight.size() > still_in_flight) {
    const StepFacts facts = step_facts(in_flight.front().facts.wait());
    const auto [step, rate] = std::pair(in_flight.front().step, in_flight.front().rate);
    in_flight.pop_front();
    if (!facts.finite) stop_for_non_finite(step);
    tell(&Callback::step_finished, {step / epoch_steps, step, step % epoch_steps, epoch_steps,
                                    facts.loss_sum / facts.loss_weight, rate});
    if (facts.notes.stop + facts.notes.interrupt > 0)
      done.signal = facts.notes.interrupt > 0 ? SIGINT : SIGTERM;
    save_due = save_due || facts.notes.save > 0;
    if (facts.notes.over > 0 && may_end() && done.stopped_by.empty()) {
      time_is_over = true;
      done.stopped_by = text("max_time ", options.max_time, " is over");
    }
  }
}

// The gradients of its micro-batches, of all ranks.
StepSums Trainer::State::sums_of(int64_t step) {
  const auto list = micro_batches_of(step);
  for (const MicroBatch& micro_batch : list) {
    const Batch batch = next_batch(step, micro_batch);
    prepare(step, micro_batch);
    const WeightedSum loss = forward(micro_batch, batch);
    const bool last = &micro_batch == &list.back();
    reducer.arm(micro_batch, loss, last, last ? notes() : StepNotes());
    if (loss.sum.defined()) loss.sum.backward();
    buffers.store(micro_batch.leaf, micro_batch.counts ? batch.count() : 0);
  }
  return reducer.finish();
}

// What this rank has to say in this step.
StepNotes Trainer::State::notes() const {
  const int signal = context.stop_signal();
  const bool interrupted = signal == SIGINT;
  const double minutes = std::chrono::duration<double>(Clock::now() - saved_at).count() / 60;
  const bool late =
      options.checkpoint_every_minutes > 0 && comm.rank() == 0 && minutes >= options.checkpoint_every_minutes;
  const bool over = most_seconds > 0 && comm.rank() == 0 &&
                    std::chrono::duration<double>(Clock::now() - began_at).count() >= most_seconds;
  return {signal != 0 && !interrupted ? 1.0 : 0.0, interrupted ? 1.0 : 0.0, late ? 1.0 : 0.0,
          over ? 1.0 : 0.0};
}

Batch Trainer::State::next_batch(int64_t step, const MicroBatch& micro_batch) {
  try {
    return upload(*reader->next());
  } catch (const DataError& e) {
    throw DataError(e.what(), " (", place_of(micro_batch, step / epoch_steps), ")");
  }
}

// What the layers keep is this leaf's; dropout and other random layers draw from a stream that only depends
// on where the run is.
void Trainer::State::prepare(int64_t step, const MicroBatch& micro_batch) {
  const int64_t batch = step / epoch_steps * epoch_batches + micro_batch.batch;
  seed_torch(static_cast<uint64_t>(options.seed), Purpose::dropout, static_cast<uint64_t>(batch),
             static_cast<uint64_t>(micro_batch.leaf), upload.device());
  buffers.load(micro_batch.leaf);
}

// The micro-batch's loss, and its share of the epoch's sums; undefined for one without samples, nothing for a
// stand-in.
WeightedSum Trainer::State::forward(const MicroBatch& micro_batch, const Batch& batch) {
  if (batch.count() == 0) return {};
  const SyncBatchNorm::Together together(sync.get(), micro_batch.counts);
  const Parts output = plan.model.forward(batch);
  const WeightedSum loss = loss_of(output, batch);
  if (!micro_batch.counts) return {loss.sum * 0, loss.weight * 0};
  measure(train_sums, micro_batch.leaf, output, batch, loss);
  return loss;
}

WeightedSum Trainer::State::loss_of(const Parts& output, const Batch& batch) const {
  return explained("loss", batch, [&] { return plan.loss(output, batch); });
}

// Adds a batch's loss and metrics to a row of sums.
void Trainer::State::measure(OrderedSums& sums, int64_t row, const Parts& output, const Batch& batch,
                             const WeightedSum& loss) const {
  const torch::NoGradGuard no_grad;
  sums.add(row, 0, loss);
  for (size_t i = 0; i < plan.metrics.size(); ++i)
    if (sums.has(1 + i)) sums.add(row, 1 + i, counted(plan.metrics[i], output, batch));
}

// As torch's clip_grad_norm_ and clip_grad_value_. What the optimizer is to divide gradients by; undefined if
// they are as they shall be.
at::Tensor Trainer::State::clip(const StepSums& sums) const {
  const double bound = options.gradient_clip_val;
  if (bound <= 0) return {};
  at::Tensor gradients = sums.gradients.narrow(0, sums.part.first, sums.part.count);
  if (options.gradient_clip_algorithm == "value") {
    gradients.clamp_(-bound, bound);
    return {};
  }
  const at::Tensor factor = (bound / (sums.norm + 1e-6)).clamp_max(1);
  if (parameters.type() != torch::kFloat64) return factor.reciprocal().to(torch::kFloat32);
  gradients.mul_(factor);  // the fused kernels divide by an f32
  return {};
}

// To the end of the epoch, or of the run, or to where a stop is asked for.
void Trainer::State::train_epoch() {
  const auto start = Clock::now();
  const int64_t first = steps;
  set_training(plan.model.module(), plan.freeze);
  epoch_finished = false;
  const size_t ahead = upload.device().is_cpu() ? 0 : 1;  // steps that the host does not wait for
  do {
    launch_step();
    if (steps == 1 && !reducer.unused().empty())
      context.log.warn("no gradient in the first step, counted as zeros: ", join(reducer.unused()));
    settle(ahead);
    if (options.checkpoint_every_n_steps > 0 && steps % options.checkpoint_every_n_steps == 0)
      save_due = true;
    if (save_due || at_epoch_end() || stopping()) settle(0);
    if (save_due && !at_epoch_end() && !stopping()) save();
  } while (!at_epoch_end() && !stopping());
  epoch_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  epoch_samples += std::min(samples, (steps - first) * numerics.accumulate * plan.batch_size);
}

// With the weights' average in their place where the plan asks for it.
bool Trainer::State::validate(EpochReport& report) {
  if (!plan.ema || !plan.ema->validate || !context.validate) return evaluate(report);
  optimizer.exchange_with_average();
  const bool measured = evaluate(report);
  optimizer.exchange_with_average();
  return measured;
}

// What the first validation and each epoch's measure. False: stopped on the way, nothing was measured.
bool Trainer::State::evaluate(EpochReport& report) {
  buffers.combine_into_module(buffers.gathered(comm));
  if (!context.validate) return true;
  tell(&Callback::validation_started, validation_samples);
  OrderedSums sums(chunk_count(validation_samples), columns_of(plan.metrics, MetricStage::validate),
                   upload.device());
  SampleRows rows(plan.metrics, validation_samples);
  FigureSums figures(plan.figures);
  agree(comm, [&] {
    for_each_chunk(plan.model, context.validate, validation_samples, plan.validate,
                   reader_options(plan.validate.shuffle), upload, options.inference_mode, comm.rank(),
                   comm.size(), [&](const ChunkOutput& out) {
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
  if (!validate(report)) return;
  tell(&Callback::first_validation_finished, report);
  if (steps == 0) epoch_finished = true;
}

// Everything between the last step of an epoch and the first of the next.
void Trainer::State::finish_epoch() {
  EpochReport report{
      epoch(), steps, {}, epoch_seconds > 0 ? static_cast<double>(epoch_samples) / epoch_seconds : 0};
  const bool due = (report.epoch + 1) % options.check_val_every_n_epoch == 0;
  const auto totals = train_sums.totals(comm);
  report.values.emplace_back("loss/train_epoch", mean_of(totals[0]));
  append_values(report.values, plan.metrics, MetricStage::train, totals, nullptr, comm);
  if (const auto rates = rates_at(steps - 1); !plan.groups.empty())
    for (size_t i = 0; i < rates.size(); ++i) report.values.emplace_back("lr/" + groups.names[i], rates[i]);
  if (due && !validate(report)) return;
  agree(comm, [&] {
    if (!due && context.validate) return;  // what callbacks watch is not measured in this epoch
    for (const auto& callback : plan.callbacks)
      if (const Signal signal = callback->epoch_finished(report);
          signal.stop && done.stopped_by.empty() && may_end())
        done.stopped_by = signal.reason.empty() ? callback->name() : signal.reason;
  });
  for (const auto& recorder : context.recorders) recorder->epoch_finished(report);
  done.values = report.values;
  epoch_finished = true;
  if (!within_epoch()) train_sums.clear();  // else the run ends here, and may be made longer
  epoch_seconds = 0;
  epoch_samples = 0;
  save();
  tell(&Callback::checkpoint_saved, report);
}

void Trainer::State::stop_for_non_finite(int64_t step) {
  agree(comm, [&] {
    for (const auto& micro_batch : micro_batches_of(step)) {
      const BatchRequest request{static_cast<uint64_t>(step / epoch_steps), micro_batch.positions};
      const Batch batch =
          upload(make_batch(*context.train, plan.train.transforms, reader_options(shuffles()), request));
      prepare(step, micro_batch);
      if (const auto found = first_non_finite(plan, batch); !found.empty())
        throw DataError(found, " for ", place_of(micro_batch, step / epoch_steps), " (step ", step, ") of ",
                        context.train->path(),
                        "; the parameters were not updated. If the data is fine, lower the learning rate or "
                        "set trainer.init.gradient_clip_val");
    }
  });
  throw AgreedError(ExitCode::bad_data, text("the summed gradient or loss of step ", step,
                                             " is not finite, though each micro-batch's is: it overflows; "
                                             "lower the learning rate or use precision = \"64-true\""));
}

Trainer::Trainer(TrainPlan plan, TrainerOptions options, TrainerContext context) {
  agree(context.comm, [&] {
    check(plan, options, context);
    freeze(plan.model.module(), plan.freeze);
    set_precision(plan.model, options);
    if (context.resume) load_weights(context.resume->file, plan.model.module());
  });
  broadcast_model(context.comm, plan.model.module());
  agree(context.comm, [&] { plan.model.module().to(torch_device(context.device)); });
  if (const auto ranks = context.comm.size(); plan.batch_size < ranks)
    context.log.warn("batch_size ", plan.batch_size, " is less than ", ranks,
                     " ranks: some have nothing to compute");
  state_ = std::make_unique<State>(std::move(plan), std::move(options), std::move(context));
  state_->restore();
  state_->context.resume = nullptr;
}

Trainer::~Trainer() = default;

FitResult Trainer::fit() {
  State& s = *state_;
  const bool validates = s.context.validate != nullptr;
  const FitReport fit_report{s.epoch_batches, s.epoch_steps,        s.options.max_epochs,
                             s.samples,       s.validation_samples, measured_tags(s.plan, validates),
                             s.steps,         s.validates_first};
  if (s.options.enable_model_summary)
    for (const auto& line : model_summary(s.plan.model.module())) s.context.log.info(line);
  agree(s.comm, [&] { s.tell<const FitReport&>(&Callback::fit_started, fit_report); });
  s.reader = s.open_reader();
  if (s.options.enable_checkpointing) s.context.checkpoints.expect(s.snapshot());
  if (s.validates_first) s.first_validation();
  while (!s.stopping()) {
    if (!s.epoch_finished && s.at_epoch_end()) {
      s.finish_epoch();
    } else if (s.total_steps >= 0 && s.steps >= s.total_steps) {
      break;
    } else {
      s.train_epoch();
    }
  }
  s.reader.reset();
  if (s.done.signal != 0 || !s.epoch_finished) s.save();  // it ends on the way
  s.finish_saving();
  s.done.steps = s.steps;
  s.done.epochs = s.steps == 0 ? 0 : s.epoch() + 1;
  s.done.device_memory = most_memory(s.upload.device());
  s.comm.all_reduce({&s.done.device_memory, 1, DType::i64}, ReduceOp::max);
  return s.done;
}

}  // namespace lab
