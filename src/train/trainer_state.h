#pragma once
// The inside of the Trainer: where a run is, and the parts that work on it.

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "lab/data/reader.h"
#include "lab/train/leaf_buffers.h"
#include "lab/train/on_device.h"
#include "lab/train/ordered_sums.h"
#include "lab/train/reducer.h"
#include "lab/train/sharded_optimizer.h"
#include "lab/train/sync_batch_norm.h"
#include "lab/train/trainer.h"
#include "train/loss_scale.h"
#include "train/undo.h"

namespace lab {

// One per rank. The members are in trainer.cpp (the loop), trainer_state.cpp (how it begins),
// trainer_validation.cpp, trainer_resume.cpp (checkpoints) and gradient_check.cpp.
struct Trainer::State {
  // An optimizer step that the device was given.
  struct Launched {
    int64_t step = 0;
    std::vector<double> rates;
    Arriving facts;
    bool given_up = false;  // what it did was undone already: a step before it was set back
  };
  using Clock = std::chrono::steady_clock;

  TrainPlan plan;
  TrainerOptions options;
  TrainerContext context;
  Communicator& comm;
  Upload upload;
  Numerics numerics;
  FlatParameters parameters;
  OptimizerGroups groups;
  ShardedOptimizer optimizer;
  GradientReducer reducer;
  LeafBuffers buffers;
  std::shared_ptr<ReduceOnPlateau> plateau;     // one of the plan's callbacks; null: none
  std::unique_ptr<SyncBatchNorm> sync;          // null: each rank's share has its own statistics
  OrderedSums train_sums;                       // of the epoch: loss and metrics per leaf
  int64_t samples = 0, validation_samples = 0;  // that are used
  int64_t epoch_batches = 0, epoch_steps = 0, total_steps = -1;
  int64_t batches_between_validations = 0;  // within an epoch
  int64_t steps = 0;                        // done
  bool epoch_finished = false;              // its validation and records too; at step 0: the first validation
  bool validates_first = true;              // in this process, before its first step
  Clock::time_point began_at = Clock::now(), saved_at = Clock::now();
  double most_seconds = 0;    // from began_at on; 0: no limit
  bool time_is_over = false;  // which is no end for a run that goes on
  double epoch_seconds = 0;   // of training in this process
  int64_t epoch_samples = 0;
  double data_seconds = 0, gradient_seconds = 0;  // of the epoch's
  std::unique_ptr<Reader> reader;
  std::deque<Launched> in_flight;  // steps that are done, or will be, and were not told of yet
  at::Tensor skip;  // 1 when one of them is not finite: then they all change nothing, unless it is skipped
  std::unique_ptr<LossScale> loss_scale;  // null: losses are as they are
  int64_t skipped = 0;                    // steps in a row
  struct Kept {                           // what a run can go back to
    int64_t step = 0, optimizer_steps = 0;
    int64_t used = 0;  // so often
    Undo tensors;
  };
  std::optional<Kept> kept;  // of the last checkpoint; nothing unless it may be wanted
  struct Computing {
    int64_t step = 0;
    MicroBatch micro_batch;
    Batch batch;
  };
  std::optional<Computing> computing;  // between the micro-batches of a step: nothing
  bool save_due = false;
  FitResult done;

  State(TrainPlan p, TrainerOptions o, TrainerContext c);

  ReaderOptions reader_options(bool shuffle) const {
    return {static_cast<uint64_t>(options.seed), shuffle, options.dtype(), 2};
  }

  // This rank's micro-batches of all steps to come, one epoch after the other.
  std::unique_ptr<Reader> open_reader() const;

  std::vector<MicroBatch> micro_batches_of(int64_t step) const {
    return micro_batches(numerics, samples, plan.batch_size, step % epoch_steps, comm.rank(), comm.size());
  }

  // Of each group of parameters.
  std::vector<double> rates_at(int64_t step) const {
    const double factor = plan.schedule.factor({step / epoch_steps, step, epoch_steps, total_steps}) *
                          (plateau ? plateau->factor() : 1);
    std::vector<double> rates;
    for (const OptimizerPlan& group : groups.plans) rates.push_back(base_rate(group) * factor);
    return rates;
  }

  void launch_step();
  void settle(size_t still_in_flight);
  bool skips() const { return options.on_non_finite != "stop" || loss_scale; }
  bool rolls_back() const { return options.on_non_finite == "roll_back"; }
  void keep();
  void roll_back(const std::string& why);
  void look_at(const StepFacts& facts, int64_t step);
  void heed(const Callback& callback, const Signal& signal, Values& values);
  bool measures_step(int64_t step) const;
  Values measured_so_far();
  void tell_of_step(const StepFacts& facts, const Launched& launched);
  StepSums sums_of(int64_t step);
  std::string details_of_trouble() const;
  Batch next_batch(int64_t step, const MicroBatch& micro_batch);
  void prepare(int64_t step, const MicroBatch& micro_batch);
  WeightedSum forward(const MicroBatch& micro_batch, const Batch& batch);
  at::Tensor clip(const StepSums& sums) const;
  void train_epoch();
  StepNotes notes() const;
  WeightedSum loss_of(const Parts& output, const Batch& batch) const;
  bool validate(EpochReport& report, int64_t count);
  bool evaluate(EpochReport& report, int64_t count);
  Snapshot snapshot();
  void save();
  void finish_saving();
  void restore();
  void restore_callbacks(const std::vector<std::pair<std::string, std::string>>& saved);
  at::Tensor saved_tensor(const std::string& name) const;
  void first_validation();
  bool validation_due() const;
  void validate_within_epoch();
  void finish_epoch();
  void make_comparable();
  std::vector<DType> gradient_types() const;
  GradientComparison compare_gradients(int64_t step);
  at::Tensor gradient_at_once(int64_t step, Range positions) const;
  bool overfits() const {
    return std::visit([](auto limit) { return limit > 0; }, options.overfit_batches);
  }
  bool shuffles() const { return plan.train.shuffle && !overfits(); }
  // Nothing but a signal may end the run before.
  bool may_end() const {
    return steps >= options.min_steps && (steps == 0 ? 0 : epoch() + 1) >= options.min_epochs;
  }
  bool at_epoch_end() const { return steps % epoch_steps == 0 || steps == total_steps; }
  // The sums of the epoch's steps are still wanted.
  bool within_epoch() const { return !epoch_finished || steps % epoch_steps != 0; }
  int64_t epoch() const { return std::max<int64_t>(steps - 1, 0) / epoch_steps; }  // of the last step
  bool at_end() const { return total_steps >= 0 && steps >= total_steps; }
  bool saves_after(int64_t epoch) const {
    return (epoch + 1) % options.checkpoint_every_n_epochs == 0 || save_due || at_end() || stopping();
  }
  bool stopping() const { return done.signal != 0 || !done.stopped_by.empty(); }
  [[noreturn]] void stop_for_non_finite(int64_t step);
  void run();

  template <class Report>
  void tell(void (Callback::*hook)(Report), std::type_identity_t<Report> report) {
    for (const auto& callback : plan.callbacks) ((*callback).*hook)(report);
    for (const auto& recorder : context.recorders) ((*recorder).*hook)(report);
  }
};

// What can be known before anything is computed: throws ConfigError or DataError.
void check(const TrainPlan& plan, const TrainerOptions& options, const TrainerContext& context);

// The tags of everything that is measured at the end of an epoch.
std::vector<std::string> measured_tags(const TrainPlan& plan, bool validates);

}  // namespace lab
