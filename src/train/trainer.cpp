#include "lab/train/trainer.h"

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/data/reader.h"
#include "lab/train/evaluator.h"
#include "lab/train/leaf_buffers.h"
#include "lab/train/ordered_sums.h"
#include "lab/train/reducer.h"
#include "lab/train/seed.h"
#include "lab/train/tensor_buffer.h"
#include "train/explained.h"
#include "train/non_finite.h"

namespace lab {
namespace {

Numerics numerics_of(const TrainerOptions& options, const TrainPlan& plan) {
  return {options.canonical(), options.virtual_ranks, least_samples_of(plan.model.module())};
}

// The tags of everything that is measured at the end of an epoch.
std::vector<std::string> tags_of(const TrainPlan& plan, bool validates) {
  std::vector<std::string> tags = {"loss/train_epoch"};
  for (const auto& metric : plan.metrics) tags.push_back(metric.name + "/train");
  if (validates) tags.push_back("loss/validate");
  for (const auto& metric : plan.metrics)
    if (validates) tags.push_back(metric.name + "/validate");
  return tags;
}

// What can be known before anything is computed.
void check(const TrainPlan& plan, const TrainerOptions& options, const TrainerContext& context) {
  if (!plan.model) throw ConfigError("the experiment's plan has no model");
  if (!plan.loss) throw ConfigError("the experiment's plan has no loss");
  if (plan.batch_size < 1)
    throw ConfigError("the experiment's batch_size is ", plan.batch_size, "; it must be at least 1");
  if (plan.schedule.needs_end && options.max_epochs < 0 && options.max_steps < 0)
    throw ConfigError("the schedule ", plan.schedule.name,
                      " must know the end of the run: set trainer.init.max_epochs or max_steps");
  const int ranks = context.comm.size();
  if (options.canonical() && ranks > options.virtual_ranks)
    throw ConfigError("canonical numerics with trainer.init.virtual_ranks = ", options.virtual_ranks,
                      " run on at most that many ranks, not on ", ranks,
                      "; start fewer ranks, or raise virtual_ranks, which changes the bits");
  if (context.train->size() == 0)
    throw DataError("the training set in ", context.train->path(),
                    " has no samples; give it a file that has, or take more of it");
  const int64_t samples = context.train->size();
  if (least_samples_of(plan.model.module()) > 1 && (samples - 1) % plan.batch_size == 0)
    throw ConfigError("the last batch of each epoch would have one sample (", samples,
                      " samples, batch_size ", plan.batch_size,
                      "), from which the model's BatchNorm1d can't learn; choose another batch_size, or take "
                      "a sample more or less");
  const auto tags = tags_of(plan, context.validate != nullptr);
  if (!plan.monitor.empty() && std::find(tags.begin(), tags.end(), plan.monitor) == tags.end())
    throw ConfigError("the best checkpoint is to be chosen by ", quoted(plan.monitor),
                      ", which is not measured; measured are: ", join(tags));
}

// The parameters in flat storage, in the run's precision, as rank 0 made them.
FlatParameters flatten(torch::nn::Module& module, DType dtype, Communicator& comm) {
  module.to(scalar_type(dtype));
  broadcast_model(comm, module);
  return FlatParameters(module);
}

// Dropout and other random layers draw from a stream that only depends on where the run is.
void seed_layers(int64_t seed, int64_t step, int64_t leaf) {
  seed_torch(static_cast<uint64_t>(seed), Purpose::dropout, static_cast<uint64_t>(step),
             static_cast<uint64_t>(leaf));
}

}  // namespace

struct Trainer::State {
  TrainPlan plan;
  TrainerOptions options;
  TrainerContext context;
  Communicator& comm;
  Numerics numerics;
  FlatParameters parameters;
  std::unique_ptr<Optimizer> optimizer;
  GradientReducer reducer;
  LeafBuffers buffers;
  OrderedSums train_sums;  // of the epoch: loss and metrics per leaf
  int64_t samples = 0, epoch_steps = 0, total_steps = -1;
  std::unique_ptr<Reader> reader;
  FitResult done;

  State(TrainPlan p, TrainerOptions o, TrainerContext c)
      : plan(std::move(p)),
        options(std::move(o)),
        context(std::move(c)),
        comm(context.comm),
        numerics(numerics_of(options, plan)),
        parameters(flatten(plan.model.module(), options.dtype(), comm)),
        optimizer(make_optimizer(plan.optimizer, parameters.values())),
        reducer(comm, parameters, {numerics, options.bucket_cap_mb}),
        buffers(plan.model.module(), leaves_of(numerics, comm.rank(), comm.size()),
                leaf_count(numerics, comm.size())),
        train_sums(leaf_count(numerics, comm.size()), 1 + static_cast<int64_t>(plan.metrics.size())),
        samples(context.train->size()),
        epoch_steps(steps_per_epoch(samples, plan.batch_size)) {
    if (options.max_epochs >= 0) total_steps = options.max_epochs * epoch_steps;
    if (options.max_steps >= 0)
      total_steps = total_steps < 0 ? options.max_steps : std::min(total_steps, options.max_steps);
  }

  ReaderOptions reader_options(bool shuffle) const {
    return {static_cast<uint64_t>(options.seed), shuffle, options.dtype(), 2};
  }

  // This rank's micro-batches of all steps, one epoch after the other.
  std::unique_ptr<Reader> open_reader() const {
    auto next = [this, step = int64_t{0}, list = std::vector<MicroBatch>(),
                 at = size_t{0}]() mutable -> std::optional<BatchRequest> {
      if (at == list.size()) {
        if (step == total_steps) return std::nullopt;
        list = micro_batches_of(step++);
        at = 0;
      }
      const auto epoch = static_cast<uint64_t>((step - 1) / epoch_steps);
      return BatchRequest{epoch, list[at++].positions};
    };
    return std::make_unique<Reader>(context.train, plan.train.transforms, reader_options(plan.train.shuffle),
                                    std::move(next));
  }

  std::vector<MicroBatch> micro_batches_of(int64_t step) const {
    return micro_batches(numerics, samples, plan.batch_size, step % epoch_steps, comm.rank(), comm.size());
  }

  double rate_at(int64_t step) const {
    return base_rate(plan.optimizer) *
           plan.schedule.factor({step / epoch_steps, step, epoch_steps, total_steps});
  }

  StepReport train_step(int64_t step);
  Batch next_batch(int64_t step);
  WeightedSum forward(const MicroBatch& micro_batch, const Batch& batch);
  at::Tensor divisor(StepSums& sums) const;
  void train_epoch(int64_t epoch);
  void measure(OrderedSums& sums, int64_t row, const Parts& output, const Batch& batch,
               const WeightedSum& loss) const;
  WeightedSum loss_of(const Parts& output, const Batch& batch) const;
  void evaluate(Values& values);
  Snapshot snapshot(const EpochReport& report);
  Signal end_epoch(EpochReport& report);
  [[noreturn]] void stop_for_non_finite(int64_t step);

  template <class Report>
  void tell(void (Callback::*hook)(Report), std::type_identity_t<Report> report) {
    for (const auto& callback : plan.callbacks) ((*callback).*hook)(report);
    for (const auto& recorder : context.recorders) ((*recorder).*hook)(report);
  }
};

// One optimizer step.
StepReport Trainer::State::train_step(int64_t step) {
  const auto list = micro_batches_of(step);
  for (const MicroBatch& micro_batch : list) {
    const Batch batch = next_batch(step);
    seed_layers(options.seed, step, micro_batch.leaf);
    buffers.load(micro_batch.leaf);
    const WeightedSum loss = forward(micro_batch, batch);
    reducer.arm(micro_batch, loss, &micro_batch == &list.back());
    if (loss.sum.defined()) loss.sum.backward();
    buffers.store(micro_batch.leaf, batch.count());
  }
  StepSums sums = reducer.finish();
  if (!sums.finite) stop_for_non_finite(step);
  const double rate = rate_at(step);
  optimizer->step(parameters.values(), sums.gradients, divisor(sums), rate);
  return {step / epoch_steps, step, step % epoch_steps, epoch_steps, sums.loss_sum / sums.loss_weight, rate};
}

Batch Trainer::State::next_batch(int64_t step) {
  try {
    return to_batch(*reader->next());
  } catch (const DataError& e) {
    throw DataError(e.what(), " (batch ", step % epoch_steps, " of epoch ", step / epoch_steps, ")");
  }
}

// The micro-batch's loss, and its share of the epoch's sums; undefined for one without samples.
WeightedSum Trainer::State::forward(const MicroBatch& micro_batch, const Batch& batch) {
  if (batch.count() == 0) return {};
  const Parts output = plan.model.forward(batch);
  const WeightedSum loss = loss_of(output, batch);
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
    sums.add(row, 1 + static_cast<int64_t>(i),
             explained("metric", batch, [&] { return plan.metrics[i].compute(output, batch); }));
}

// What the optimizer divides the sums by: the global weight, and the factor of clipping. As torch's
// clip_grad_norm_ and clip_grad_value_ on the mean gradient.
at::Tensor Trainer::State::divisor(StepSums& sums) const {
  const bool by_value = options.gradient_clip_val > 0 && options.gradient_clip_algorithm == "value";
  if (by_value || options.dtype() == DType::f64) {  // the fused kernels divide by an f32
    sums.gradients.div_(sums.weight);
    sums.weight = torch::ones({}, torch::kFloat32);
  }
  if (by_value) sums.gradients.clamp_(-options.gradient_clip_val, options.gradient_clip_val);
  if (options.gradient_clip_val <= 0 || by_value) return sums.weight;
  const double norm = sums.gradients.norm().item<double>() / sums.weight.item<double>();
  const double factor = std::min(1.0, options.gradient_clip_val / (norm + 1e-6));
  if (options.dtype() == DType::f64) {
    sums.gradients.mul_(factor);
    return sums.weight;
  }
  return sums.weight / factor;
}

void Trainer::State::train_epoch(int64_t epoch) {
  const int64_t end =
      total_steps < 0 ? (epoch + 1) * epoch_steps : std::min((epoch + 1) * epoch_steps, total_steps);
  train_sums.clear();
  plan.model.module().train();
  for (int64_t step = done.steps; step < end; ++step) {
    const StepReport report = train_step(step);
    if (step == 0 && !reducer.unused().empty())
      context.log.warn("no gradient in the first step, counted as zeros: ", join(reducer.unused()));
    done.steps = step + 1;
    tell(&Callback::step_finished, report);
  }
}

void Trainer::State::evaluate(Values& values) {
  buffers.combine_into_module(comm);
  if (!context.validate) return;
  tell(&Callback::validation_started, context.validate->size());
  OrderedSums sums(chunk_count(context.validate->size()), 1 + static_cast<int64_t>(plan.metrics.size()));
  agree(comm, [&] {
    for_each_chunk(plan.model, context.validate, plan.validate, reader_options(plan.validate.shuffle),
                   comm.rank(), comm.size(), [&](const ChunkOutput& out) {
                     measure(sums, out.chunk, out.output, out.batch, loss_of(out.output, out.batch));
                   });
  });
  const auto means = sums.means(comm);
  values.emplace_back("loss/validate", means[0]);
  for (size_t i = 0; i < plan.metrics.size(); ++i)
    values.emplace_back(plan.metrics[i].name + "/validate", means[i + 1]);
}

Snapshot Trainer::State::snapshot(const EpochReport& report) {
  Snapshot snapshot;
  snapshot.report = report;
  snapshot.model = model_tensors(plan.model.module());
  for (const auto& [name, flat] : optimizer->flat_state())
    for (const auto& slot : parameters.slots())
      snapshot.rest.push_back(
          {text("lab.optimizer.", name, ".", slot.name), FlatParameters::view(flat, slot)});
  snapshot.rest.push_back({"lab.buffers", buffers.gathered(comm)});
  snapshot.optimizer = optimizer->name();
  snapshot.optimizer_steps = optimizer->steps();
  for (const auto& callback : plan.callbacks)
    snapshot.callbacks.emplace_back(callback->name(), callback->state());
  return snapshot;
}

// Everything between the last step of an epoch and the first of the next.
Signal Trainer::State::end_epoch(EpochReport& report) {
  const auto means = train_sums.means(comm);
  report.values.emplace_back("loss/train_epoch", means[0]);
  for (size_t i = 0; i < plan.metrics.size(); ++i)
    report.values.emplace_back(plan.metrics[i].name + "/train", means[i + 1]);
  const bool due = (report.epoch + 1) % options.check_val_every_n_epoch == 0;
  if (due) evaluate(report.values);
  Signal stop;
  agree(comm, [&] {
    if (!due && context.validate) return;  // what callbacks watch is not measured in this epoch
    for (const auto& callback : plan.callbacks)
      if (Signal signal = callback->epoch_finished(report); signal.stop && !stop.stop)
        stop = std::move(signal);
  });
  for (const auto& recorder : context.recorders) recorder->epoch_finished(report);
  if (options.enable_checkpointing) {
    if (!due) buffers.combine_into_module(comm);
    context.checkpoints.save(snapshot(report));
    tell(&Callback::checkpoint_saved, report);
  }
  return stop;
}

void Trainer::State::stop_for_non_finite(int64_t step) {
  agree(comm, [&] {
    for (const auto& micro_batch : micro_batches_of(step)) {
      const BatchRequest request{static_cast<uint64_t>(step / epoch_steps), micro_batch.positions};
      const Batch batch = to_batch(
          make_batch(*context.train, plan.train.transforms, reader_options(plan.train.shuffle), request));
      seed_layers(options.seed, step, micro_batch.leaf);
      buffers.load(micro_batch.leaf);
      if (const auto found = first_non_finite(plan, batch); !found.empty())
        throw DataError(found, " for batch ", step % epoch_steps, " of epoch ", step / epoch_steps, " (step ",
                        step, ") of ", context.train->path(),
                        "; the parameters were not updated. If the data is fine, lower the learning rate or "
                        "set trainer.init.gradient_clip_val");
    }
  });
  throw AgreedError(ExitCode::bad_data, text("the summed gradient or loss of step ", step,
                                             " is not finite, though each micro-batch's is: it overflows; "
                                             "lower the learning rate or use precision = \"64-true\""));
}

Trainer::Trainer(TrainPlan plan, TrainerOptions options, TrainerContext context) {
  agree(context.comm, [&] { check(plan, options, context); });
  if (const auto ranks = context.comm.size(); plan.batch_size < ranks)
    context.log.warn("batch_size ", plan.batch_size, " is less than ", ranks,
                     " ranks: some have nothing to compute");
  state_ = std::make_unique<State>(std::move(plan), std::move(options), std::move(context));
}

Trainer::~Trainer() = default;

FitResult Trainer::fit() {
  State& s = *state_;
  const bool validates = s.context.validate != nullptr;
  const FitReport fit_report{s.epoch_steps, s.options.max_epochs, s.samples,
                             validates ? s.context.validate->size() : 0, tags_of(s.plan, validates)};
  agree(s.comm, [&] { s.tell<const FitReport&>(&Callback::fit_started, fit_report); });
  EpochReport first;
  s.evaluate(first.values);
  s.tell(&Callback::first_validation_finished, first);
  s.reader = s.open_reader();
  for (int64_t epoch = 0; s.done.steps != s.total_steps && s.options.max_epochs != epoch; ++epoch) {
    const auto start = std::chrono::steady_clock::now();
    const int64_t before = s.done.steps;
    s.train_epoch(epoch);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    const auto seen = std::min(s.samples, (s.done.steps - before) * s.plan.batch_size);
    EpochReport report{epoch, s.done.steps, {}, static_cast<double>(seen) / seconds.count()};
    const Signal signal = s.end_epoch(report);
    s.done.epochs = epoch + 1;
    s.done.values = report.values;
    if (signal.stop) {
      s.done.stopped_by = signal.reason;
      break;
    }
  }
  s.reader.reset();
  return s.done;
}

}  // namespace lab
