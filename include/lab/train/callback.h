#pragma once
// Observers of a run. They are shown const reports and may ask to stop; only the trainer changes anything.

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/draw/drawing.h"

namespace lab {

struct TableColumn;  // lab/data/table.h

// Tags and what was measured: "loss/train_epoch", "loss/validate", "accuracy/validate", ...
using Values = std::vector<std::pair<std::string, double>>;
std::optional<double> value_of(const Values& values, const std::string& tag);

struct FitReport {
  int64_t batches_per_epoch = 0;  // as many as steps, or more where several make one step
  int64_t steps_per_epoch = 0;
  int64_t max_epochs = -1;
  int64_t samples = 0, validation_samples = 0;
  std::vector<std::string> tags = {};    // of everything that is measured at the end of an epoch
  std::vector<std::string> groups = {};  // of parameters, in StepReport's order
  int64_t steps_done = 0;                // when an earlier run is continued
  bool validates_first = true;           // first_validation_finished comes before the first step
};

struct StepReport {
  int64_t epoch = 0;  // 0-based
  int64_t step = 0;   // 0-based, over the whole run
  int64_t batch = 0;  // 0-based, of the epoch's steps
  int64_t steps_per_epoch = 0;
  double loss = 0;                 // mean over the global batch
  double rate = 0;                 // learning rate used; of the first group of parameters
  std::vector<double> rates = {};  // of each group
  bool skipped = false;            // its loss or gradients were not finite: it has changed nothing
  Values values = {};              // what callbacks add
};

struct DrawnFigure {
  std::string name;
  Drawing drawing;
};

struct EpochReport {
  int64_t epoch = 0;              // 0-based
  int64_t step = 0;               // optimizer steps done
  Values values = {};             // all that was measured in this epoch
  double samples_per_second = 0;  // of training, over all ranks
  // Of the same time, on this rank: all of it, and the parts that it waited for data and for gradients.
  double seconds = 0, data_seconds = 0, gradient_seconds = 0;
  std::vector<DrawnFigure> figures = {};
};

struct FitEnd {
  int64_t epochs = 0, steps = 0;  // done
  std::string stopped_by;         // a callback's reason; empty: none
  int signal = 0;                 // it was stopped for it
};

struct Signal {
  bool stop = false;
  std::string reason = {};  // said in the log when it stops
  Values values = {};       // to be recorded with the step or the epoch; rank 0's are
};

// Reports are the same on every rank but for times and chunks. A callback of the plan is called on every rank
// and must decide by what is the same there; it must not communicate. What one rank alone records is a
// callback that only it was given; its Signals are not looked at. A stop takes effect on all ranks behind the
// same step: that of the report, or on GPUs the one after it.
class Callback {
 public:
  virtual ~Callback() = default;
  virtual std::string name() const = 0;
  virtual void fit_started(const FitReport&) {}
  virtual void fit_finished(const FitEnd&) {}  // in good order, also when it was stopped
  // What ends the run reached this rank: an error that all ranks know of, or its own alone. Whatever this
  // throws is dropped.
  virtual void failed(const std::exception&) {}
  virtual void epoch_started(int64_t /*epoch*/) {}  // or gone on with
  virtual void first_validation_finished(const EpochReport&) {}
  virtual void validation_started(int64_t /*samples*/) {}
  virtual void validation_chunk_finished(int64_t /*chunk*/) {}  // of this rank's
  virtual void validation_finished(const Values&) {}            // each, the first too
  // One that is not the epoch's last; what monitors something looks at that one.
  virtual void validation_within_epoch_finished(const EpochReport&) {}
  // Step by step in order; on GPUs while the next one is under way.
  virtual Signal step_finished(const StepReport&) { return {}; }
  virtual Signal epoch_finished(const EpochReport&) { return {}; }
  virtual void checkpoint_started() {}
  virtual void checkpoint_taken(int64_t /*steps_done*/) {}  // training goes on; it may still be written
  virtual void checkpoint_saved(const EpochReport&) {}      // at the end of an epoch
  // What a prediction's callbacks are told of, and nothing else but failed(). At the end rank 0 has the rows
  // of all samples, the others no columns: what writes them in a form of its own does it here.
  virtual void prediction_started(int64_t /*samples*/) {}
  virtual void prediction_chunk_finished(int64_t /*chunk*/) {}  // of this rank's
  virtual void prediction_finished(const std::vector<TableColumn>& /*columns*/) {}
  // Saved with each checkpoint; "" for none.
  virtual std::string state() const { return ""; }
  virtual void restore(const std::string&) {}
};

enum class Mode { min, max };

struct EarlyStopping {
  std::string monitor = "loss/validate";
  int64_t patience = 3;     // epochs without improvement before it stops
  double min_delta = 1e-4;  // less than this is no improvement
  Mode mode = Mode::min;
};

// Has state: one per run. Throws ConfigError when the fit starts and `monitor` will not be measured.
std::shared_ptr<Callback> early_stopping(EarlyStopping options);

// Records the learning rate with each step that is recorded: "learning_rate", or
// "learning_rate/GROUP" for each group.
std::shared_ptr<Callback> learning_rate_monitor();

// Records with each epoch how fast it went: throughput/samples_per_second (of all ranks), of rank 0
// throughput/seconds, and throughput/data_wait and throughput/gradient_wait, the shares of it in which that
// rank had to wait for samples and for gradients; throughput/memory_gb, the most that its process had.
std::shared_ptr<Callback> throughput_monitor();

}  // namespace lab
