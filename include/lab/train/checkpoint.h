#pragma once
// Checkpoints: everything a run is, in one safetensors file; model tensors under their bare names.

#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/train/callback.h"
#include "lab/train/flat.h"

namespace lab {

// A run's state between two steps. Tensors are views or copies that stay valid until the next step; what is
// in here must not depend on the rank count, the clock or the machine, so that equal runs give equal files.
struct Snapshot {
  EpochReport report;
  std::vector<NamedTensor> model;  // bare names
  std::vector<NamedTensor> rest;   // names that start with "lab."
  std::string optimizer;
  int64_t optimizer_steps = 0;
  std::vector<std::pair<std::string, std::string>> callbacks;  // name, state
};

struct Best {
  std::string monitor;
  double value = 0;
  int64_t epoch = 0, step = 0;
};

// Where snapshots go. Only the trainer calls it, on every rank; all but rank 0 were given the one that keeps
// nothing.
class CheckpointSink {
 public:
  virtual ~CheckpointSink() = default;
  // Throws IoError when it cannot be written; what was there before is then untouched.
  virtual void save(const Snapshot& snapshot) = 0;
  virtual std::optional<Best> best() const = 0;
};

std::unique_ptr<CheckpointSink> no_checkpoints();

// Writes `folder`/last.safetensors each time, best.safetensors when `monitor` is better than ever before (NaN
// never is), and index.json, which lists both. An epoch without `monitor` cannot be the best.
std::unique_ptr<CheckpointSink> checkpoint_folder(std::string folder, std::string monitor, Mode mode);

// Copies the model tensors of a checkpoint or any other safetensors file into the module, casting floats to
// the module's type. Throws DataError naming every tensor that is missing, unknown or of another shape;
// nothing is copied then.
void load_weights(const std::string& path, torch::nn::Module& module);

}  // namespace lab
