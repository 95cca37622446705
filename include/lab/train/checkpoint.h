#pragma once
// Checkpoints: everything a run is, in one safetensors file; model tensors under their bare names.

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/core/log.h"
#include "lab/train/best.h"
#include "lab/train/callback.h"
#include "lab/train/flat.h"
#include "lab/train/safetensors.h"
#include "lab/train/weights_file.h"

namespace lab {

// What a run is between two steps, apart from its tensors. Nothing in it depends on the clock or the machine,
// so that equal runs give equal files, however often they were interrupted.
struct RunState {
  int64_t epoch = 0;           // of the last step
  int64_t step = 0;            // optimizer steps done
  bool epoch_finished = true;  // false: within an epoch, or before its validation and records
  Values values = {};          // of the last finished epoch
  std::string optimizer = {};
  int64_t optimizer_steps = 0;
  std::vector<std::pair<std::string, std::string>> callbacks = {};  // name, state
  std::string stopped_by = {};                                      // a callback's reason
  std::optional<Best> best = {};                                    // filled in by the CheckpointSink
  std::vector<Best> next_best = {};                                 // those kept behind it; likewise
  std::vector<int64_t> records = {};                                // of each tracker; likewise
  int64_t epoch_steps = 0;  // within an epoch: how many steps it has; else 0
  bool averaged = false;    // validation, and so `best`, was of the weights' average
};

// A run's state with its tensors: views or copies that stay valid until the next step.
struct Snapshot {
  RunState state;
  std::vector<NamedTensor> model;  // bare names
  std::vector<NamedTensor> rest;   // names that start with "lab."
};

// A checkpoint read back.
struct SavedRun {
  RunState state;
  SafetensorsFile file;
};

// Where snapshots go. Only the trainer calls it, on every rank; all but rank 0 were given the one that keeps
// nothing. Both throw IoError when something could not be written; what was there before is then untouched.
class CheckpointSink {
 public:
  virtual ~CheckpointSink() = default;
  // Told once, before training, what snapshots will look like: memory for them is made ready beside it.
  virtual void expect(const Snapshot& /*like*/) {}
  // Returns as soon as the tensors may change again; an error in writing may be thrown by a later call.
  virtual void save(const Snapshot& snapshot) = 0;
  // All of it is on the disk.
  virtual void finish() = 0;
  // Whether the last snapshot is on the disk, once finish() has returned.
  virtual bool saved() const = 0;
  virtual std::optional<Best> best() const = 0;
};

std::unique_ptr<CheckpointSink> no_checkpoints();

struct CheckpointPlan {
  std::string folder;
  std::string monitor = {};  // what "best" means; empty: no best
  Mode mode = Mode::min;
  int64_t keep = 2;           // the newest so many stay; -1: all
  bool stop_on_error = true;  // false: a checkpoint that cannot be written is said in the log
  int64_t top = 1;            // and the best so many; -1: all that have the monitored value
  std::string names = {};     // a further name for each of those, as NameTemplate has it; empty: none
  std::function<std::vector<int64_t>()> records = [] { return std::vector<int64_t>(); };
  // Called by the thread that writes: before a checkpoint, and when it is on the disk.
  std::function<void()> sync_records = [] {};
  std::function<void(const RunState&)> saved = [](const RunState&) {};
};

// Each snapshot becomes `epoch=E-step=S.safetensors`, written by a thread of its own from a copy of the
// tensors; last.safetensors is the newest of them, best.safetensors the one with the best `monitor` (NaN
// never is; an epoch without it cannot be; of equal ones the first): other names of the same files, as are
// those that `names` gives. index.json lists them all.
// `resume`: the checkpoint of this folder that the run goes on from, null for none.
std::unique_ptr<CheckpointSink> checkpoint_folder(CheckpointPlan plan, const SavedRun* resume, Log log);

// Reads a checkpoint whole and compares it with its checksums. Throws InputNotFound, IoError, and DataError
// for what is damaged or holds no state of a run.
SavedRun read_checkpoint(const std::string& path);

// The newest checkpoint of a run's checkpoint folder that is whole, and says in the log which ones were not;
// nullopt where there is none. Throws DataError when there are some and none can be used.
std::optional<SavedRun> newest_checkpoint(const std::string& folder, const Log& log);

// Copies the model tensors of a checkpoint or any other safetensors file into the module, casting floats to
// the module's type. Throws DataError naming every tensor that is missing, unknown or of another shape;
// nothing is copied then.
void load_weights(const SafetensorsFile& file, torch::nn::Module& module);
// The same from a file of any format that lab knows.
void load_weights(const WeightsFile& file, torch::nn::Module& module);
// The same with the weights' average (Ema) in place of the weights that have one. Throws DataError where the
// file has none.
void load_average(const WeightsFile& file, torch::nn::Module& module);
bool has_average(const WeightsFile& file);
// Whether it is what the run that wrote the file has validated.
bool validated_average(const WeightsFile& file);
// The model's tensors of such a file, under the names that they have in the module: what all names of the
// file begin with is taken away unless the module has the like.
std::vector<TensorView> weights_for(const WeightsFile& file, const torch::nn::Module& module);

}  // namespace lab
