#pragma once
// The training loop.

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/log.h"
#include "lab/data/source.h"
#include "lab/device/device.h"
#include "lab/train/checkpoint.h"
#include "lab/train/gradient_check.h"
#include "lab/train/options.h"
#include "lab/train/plan.h"

namespace lab {

// What the program around the trainer provides on this rank. Referenced objects must outlive the trainer.
struct TrainerContext {
  Communicator& comm;
  Log log = {};
  std::shared_ptr<const Source> train;
  std::shared_ptr<const Source> validate = {};  // null: no validation
  CheckpointSink& checkpoints;
  std::vector<std::shared_ptr<Callback>> recorders = {};  // this rank's own: records and progress, heartbeat
  // On rank 0: what to go on from, used by the constructor alone; null: from the start.
  const SavedRun* resume = nullptr;
  // The signal that asks this rank for a stop, 0 for none; looked at in every step and chunk.
  std::function<int()> stop_signal = [] { return 0; };
  // On rank 0: `resume` is of another run, from which this one begins: with a validation.
  bool begins = false;
  Device device = {};  // where the model is to compute; `comm` reaches its memory
  // Told on the rank that has it of an exception that ends the run, before it leaves fit(): in which step and
  // samples it came, if in one, and what is in the tensors. Unset: nobody wants to know.
  std::function<void(const std::exception&, const std::string& details)> in_trouble = {};
};

struct FitResult {
  int64_t epochs = 0, steps = 0;  // done
  std::string stopped_by;         // a callback's reason; empty when it ran to its end
  int signal = 0;                 // it was stopped for this signal: SIGINT or SIGTERM
  bool saved = true;              // the newest checkpoint is on the disk
  int64_t device_memory = 0;      // bytes that tensors took at once on the rank that had most; 0 on CPUs
  Values values;                  // of the last epoch
};

// What can be known to be wrong before anything is computed, each in a line; the sources may be null where
// they could not be opened. Does not communicate.
std::vector<std::string> mistakes_in(const TrainPlan& plan, const TrainerOptions& options, int ranks,
                                     const Source* train, const Source* validate);

// Validates once, then trains to the end of the plan, or goes on from where a checkpoint was. Every rank
// makes one from the same plan and options and calls fit() once; the results are the same on all. One thread,
// beside the reader's and the communicator's lane.
class Trainer {
 public:
  // Moves the model's parameters into flat storage and gives every rank rank 0's weights and buffers. Throws
  // ConfigError for a plan and options that do not fit together. Collective.
  Trainer(TrainPlan plan, TrainerOptions options, TrainerContext context);
  ~Trainer();

  // A stop that any rank is asked for takes effect on all at the same step: it is saved, and fit() returns.
  // Throws DataError before the update when a gradient or the loss is not finite: what, in which step and
  // samples.
  FitResult fit();

  // Instead of fit(): the gradients of the epoch's first step, and of its last if that is smaller, as
  // training would make them of the weights as they are, against those of the step's samples at once on rank
  // 0. The module is in evaluation mode: dropout is off, and BatchNorm uses its running statistics, as those
  // of each rank's share are not those of the whole batch; but see compares_batch_norm(). The comparisons are
  // empty on other ranks. Collective.
  std::vector<GradientComparison> compare_gradients();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lab
