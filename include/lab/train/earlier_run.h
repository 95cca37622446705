#pragma once
// A new run that goes on from the checkpoint of another: lab's own, or one of PyTorch Lightning.

#include <memory>
#include <string>
#include <vector>

#include "lab/core/log.h"
#include "lab/train/checkpoint.h"
#include "lab/train/plan.h"
#include "lab/train/weights_file.h"

namespace lab {

// What the other run was, made ready for a new one, which may be configured otherwise: weights, optimizer and
// epoch go on, and of lab's also the callbacks and the best value. Where epochs have another number of steps
// now, steps are counted as if all had had that.
class EarlierRun {
 public:
  // Compares the file with the plan: throws DataError for another model, another optimizer, or a place within
  // an epoch that this plan does not have. The plan's module then has the weights. What is not taken over is
  // said in the log.
  EarlierRun(WeightsFile file, const TrainPlan& plan, int64_t steps_per_epoch, const Log& log);

  // Writes it as the first checkpoint of a run's checkpoint folder, and reads it back. Throws IoError.
  SavedRun begin_in(const std::string& folder) const;

 private:
  void take_lab(const SafetensorsFile& file, const TrainPlan& plan, int64_t steps_per_epoch, const Log& log);
  void take_lightning(const TorchFile& file, const TrainPlan& plan, int64_t steps_per_epoch, const Log& log);
  void require_loss(const TrainPlan& plan) const;
  void check_optimizer(const TrainPlan& plan) const;

  WeightsFile file_;
  std::shared_ptr<const void> kept_;  // what tensors_ refers to, beside the file
  RunState state_;
  std::vector<TensorView> tensors_;
};

}  // namespace lab
