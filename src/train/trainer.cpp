#include "lab/train/trainer.h"

#include <signal.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/model_summary.h"
#include "lab/train/seed.h"
#include "lab/train/tensor_buffer.h"
#include "train/explained.h"
#include "train/metric_values.h"
#include "train/non_finite.h"
#include "train/tensor_table.h"
#include "train/trainer_state.h"
#include "train/undo.h"

namespace lab {
namespace {

std::string place_of(const MicroBatch& micro_batch, int64_t epoch) {
  return text("batch ", micro_batch.batch, " of epoch ", epoch);
}

// Adds the time that it lives to `seconds`.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

// Gives the device the next optimizer step to do.
void Trainer::State::launch_step() {
  std::optional<Undo> undo;
  if (skips()) {
    auto changed = train_sums.tensors();
    changed.push_back(buffers.sets());
    undo.emplace(std::move(changed));
  }
  const StepSums sums = sums_of(steps);
  if (undo) undo->where(sums.skip);
  const std::vector<double> rates = rates_at(steps);
  skip = skips() || in_flight.empty() ? sums.skip : at::maximum(skip, sums.skip);
  optimizer.step(sums.gradients, clip(sums), skip, rates);
  if (loss_scale) loss_scale->update(skip);
  in_flight.push_back({steps, rates, Arriving(sums.facts)});
  ++steps;
}

// What is to be done where a step's sums are not finite. AgreedError where the run is to stop.
void Trainer::State::look_at(const StepFacts& facts, int64_t step) {
  constexpr int64_t most_in_a_row = 50;  // steps that are skipped before the run is given up
  skipped = facts.finite ? 0 : skipped + 1;
  if (facts.finite) return;
  optimizer.was_skipped();
  const bool overflow = loss_scale && std::isfinite(facts.loss_sum);  // which a smaller scale mends
  if (overflow && skipped <= most_in_a_row) return;
  try {
    stop_for_non_finite(step);
  } catch (const AgreedError& e) {
    if (options.on_non_finite == "stop" || skipped > most_in_a_row || e.code() != ExitCode::bad_data) throw;
    if (rolls_back())
      roll_back(e.what());
    else
      context.log.warn("a step is skipped: ", e.what());
  }
}

// A callback of the plan asks for something.
void Trainer::State::heed(const Callback& callback, const Signal& signal, Values& values) {
  values.insert(values.end(), signal.values.begin(), signal.values.end());
  if (signal.stop && done.stopped_by.empty() && may_end())
    done.stopped_by = signal.reason.empty() ? callback.name() : signal.reason;
}

// Whether metrics are wanted of this step.
bool Trainer::State::measures_step(int64_t step) const {
  return (step + 1) % options.log_every_n_steps == 0 &&
         std::ranges::any_of(plan.metrics, [](const Metric& metric) { return metric.each_step; });
}

// Those of the epoch's steps that are done; nothing is in flight.
Values Trainer::State::measured_so_far() {
  Values values;
  append_values(values, plan.metrics, MetricStage::train, train_sums.totals(comm), nullptr, comm,
                /*each_step=*/true);
  for (auto& [tag, value] : values) {
    const size_t at = tag.find(" (train)/");
    tag.insert(at == std::string::npos ? tag.size() : at + 7, "_step");
  }
  return values;
}

void Trainer::State::tell_of_step(const StepFacts& facts, const Launched& launched) {
  const int64_t step = launched.step;
  StepReport report{step / epoch_steps,
                    step,
                    step % epoch_steps,
                    epoch_steps,
                    facts.loss_sum / facts.loss_weight,
                    launched.rates.front(),
                    launched.rates,
                    !facts.finite};
  if (measures_step(step)) report.values = measured_so_far();
  for (const auto& callback : plan.callbacks) heed(*callback, callback->step_finished(report), report.values);
  for (const auto& recorder : context.recorders) recorder->step_finished(report);
}

// Waits for what the oldest steps have to tell, but for so many of the newest.
void Trainer::State::settle(size_t still_in_flight) {
  while (in_flight.size() > still_in_flight) {
    const StepFacts facts = step_facts(in_flight.front().facts.wait());
    const Launched launched = std::move(in_flight.front());
    in_flight.pop_front();
    if (!launched.given_up) look_at(facts, launched.step);
    tell_of_step(facts, launched);
    if (facts.notes.stop + facts.notes.interrupt > 0)
      done.signal = facts.notes.interrupt > 0 ? SIGINT : SIGTERM;
    save_due = save_due || facts.notes.save > 0;
    if (facts.notes.over > 0 && may_end() && done.stopped_by.empty()) {
      time_is_over = true;
      done.stopped_by = text("max_time ", options.max_time, " is over");
    }
  }
}

// Where it was, and what is in the tensors.
std::string Trainer::State::details_of_trouble() const {
  if (!computing) return "";
  const auto& [step, micro_batch, batch] = *computing;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : batch.parts.entries()) tensors.push_back({name, tensor});
  for (const auto& parameter : plan.model.module().named_parameters()) {
    tensors.push_back({parameter.key(), parameter.value()});
    tensors.push_back({parameter.key() + ", gradient", parameter.value().grad()});
  }
  return text("step ", step, ", ", place_of(micro_batch, step / epoch_steps),
              batch.ids.empty() ? "" : text(", samples ", short_list(batch.ids)), "\n",
              tensor_table(tensors));
}

// The gradients of its micro-batches, of all ranks.
StepSums Trainer::State::sums_of(int64_t step) {
  const auto list = micro_batches_of(step);
  for (const MicroBatch& micro_batch : list) {
    const Batch& batch = computing.emplace(step, micro_batch, Batch()).batch = next_batch(step, micro_batch);
    prepare(step, micro_batch);
    const WeightedSum loss = forward(micro_batch, batch);
    const bool last = &micro_batch == &list.back();
    reducer.arm(micro_batch, loss, last, last ? notes() : StepNotes());
    if (loss.sum.defined()) loss.sum.backward();
    buffers.store(micro_batch.leaf, micro_batch.counts ? batch.count() : 0);
  }
  computing.reset();
  const Stopwatch waiting(gradient_seconds);
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
    const Stopwatch waiting(data_seconds);
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
  measure(train_sums, micro_batch.leaf, plan.metrics, output, batch, loss);
  return loss_scale ? loss_scale->scaled(loss) : loss;
}

WeightedSum Trainer::State::loss_of(const Parts& output, const Batch& batch) const {
  return explained("loss", batch, [&] { return plan.loss(output, batch); });
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
  tell(&Callback::epoch_started, steps / epoch_steps);
  const size_t ahead = upload.device().is_cpu() ? 0 : 1;  // steps that the host does not wait for
  do {
    launch_step();
    if (steps == 1 && !reducer.unused().empty())
      context.log.warn("no gradient in the first step, counted as zeros: ", join(reducer.unused()));
    settle(measures_step(steps - 1) ? 0 : ahead);
    if (options.checkpoint_every_n_steps > 0 && steps % options.checkpoint_every_n_steps == 0)
      save_due = true;
    if (save_due || at_epoch_end() || stopping() || validation_due()) settle(0);
    if (validation_due() && !stopping()) validate_within_epoch();
    if (save_due && !at_epoch_end() && !stopping()) save();
  } while (!at_epoch_end() && !stopping());
  epoch_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  epoch_samples += std::min(samples, (steps - first) * numerics.accumulate * plan.batch_size);
}

// To the end of the plan, or to where a stop is asked for.
void Trainer::State::run() {
  if (validates_first)
    first_validation();
  else if (steps == 0)
    epoch_finished = true;
  while (!stopping()) {
    if (!epoch_finished && at_epoch_end()) {
      finish_epoch();
    } else if (at_end()) {
      break;
    } else {
      train_epoch();
    }
  }
}

// Everything between the last step of an epoch and the first of the next.
void Trainer::State::finish_epoch() {
  EpochReport report{
      .epoch = epoch(),
      .step = steps,
      .samples_per_second = epoch_seconds > 0 ? static_cast<double>(epoch_samples) / epoch_seconds : 0,
      .seconds = epoch_seconds,
      .data_seconds = data_seconds,
      .gradient_seconds = gradient_seconds};
  const bool due = (report.epoch + 1) % options.check_val_every_n_epoch == 0;
  const auto totals = train_sums.totals(comm);
  report.values.emplace_back("loss/train_epoch", mean_of(totals[0]));
  append_values(report.values, plan.metrics, MetricStage::train, totals, nullptr, comm);
  if (const auto rates = rates_at(steps - 1); !plan.groups.empty())
    for (size_t i = 0; i < rates.size(); ++i) report.values.emplace_back("lr/" + groups.names[i], rates[i]);
  if (due && !validate(report, validation_samples)) return;
  agree(comm, [&] {
    if (!due && context.validate) return;  // what callbacks watch is not measured in this epoch
    for (const auto& callback : plan.callbacks)
      heed(*callback, callback->epoch_finished(report), report.values);
  });
  for (const auto& recorder : context.recorders) recorder->epoch_finished(report);
  done.values = report.values;
  epoch_finished = true;
  if (!within_epoch()) train_sums.clear();  // else the run ends here, and may be made longer
  epoch_seconds = data_seconds = gradient_seconds = 0;
  epoch_samples = 0;
  if (!saves_after(report.epoch)) return;
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

Trainer::Trainer(TrainPlan given, TrainerOptions options, TrainerContext context) {
  TrainPlan plan = with_loss_module(std::move(given));
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

FitResult Trainer::fit() try {
  State& s = *state_;
  const bool validates = s.context.validate != nullptr;
  const FitReport fit_report{s.epoch_batches,      s.epoch_steps,
                             s.options.max_epochs, s.samples,
                             s.validation_samples, measured_tags(s.plan, validates),
                             s.groups.names,       s.steps,
                             s.validates_first};
  if (s.options.enable_model_summary)
    for (const auto& line : model_summary(s.plan.model.module())) s.context.log.info(line);
  agree(s.comm, [&] { s.tell<const FitReport&>(&Callback::fit_started, fit_report); });
  s.keep();
  s.reader = s.open_reader();
  if (s.options.enable_checkpointing) s.context.checkpoints.expect(s.snapshot());
  s.run();
  s.reader.reset();
  if (s.done.signal != 0 || !s.epoch_finished) s.save();  // it ends on the way
  s.finish_saving();
  s.done.steps = s.steps;
  s.done.epochs = s.steps == 0 ? 0 : s.epoch() + 1;
  s.done.device_memory = most_memory(s.upload.device());
  s.comm.all_reduce({&s.done.device_memory, 1, DType::i64}, ReduceOp::max);
  s.tell<const FitEnd&>(&Callback::fit_finished,
                        {s.done.epochs, s.done.steps, s.done.stopped_by, s.done.signal});
  return s.done;
} catch (const std::exception& e) {
  if (state_->context.in_trouble) state_->context.in_trouble(e, state_->details_of_trouble());
  for (const auto& callback : state_->plan.callbacks) try {
      callback->failed(e);
    } catch (const std::exception& another) {
      state_->context.log.warn(callback->name(), " has failed in turn: ", another.what());
    }
  throw;
}

}  // namespace lab
