#pragma once
// What a checkpoint of PyTorch Lightning says of a run, as lab has it.

#include <memory>
#include <string>
#include <vector>

#include "lab/train/torch_file.h"

namespace lab::detail {

struct LightningState {
  int64_t epochs = 0;  // finished
  int64_t steps = 0;   // optimizer steps done, as it counts them
  std::string optimizer = {};
  int64_t optimizer_steps = 0;
  double rate = 0;                         // the optimizer's, before any schedule
  std::vector<TensorView> tensors = {};    // "lab.optimizer.exp_avg.conv1.weight", ...
  std::vector<std::string> left_out = {};  // what is there and not taken over, in words
  // Zeros, for parameters that the optimizer had not seen yet.
  std::vector<std::shared_ptr<std::vector<std::byte>>> zeros = {};
};

// `parameters`: the trainable ones of the model, in the order in which Python registers them. The views are
// valid while `file` and the result live. Throws DataError for what is no checkpoint of a run, was saved
// within an epoch, or has an optimizer other than Adam, AdamW and SGD: with what to do.
LightningState lightning_state(const TorchFile& file, const std::vector<TensorView>& parameters);

}  // namespace lab::detail
