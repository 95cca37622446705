#pragma once
// How to train, apart from what the experiment says: Lightning's Trainer arguments, by the same names, and
// lab's own.

#include <cstdint>
#include <string>

#include "lab/core/dtype.h"

namespace lab {

struct TrainerOptions {
  int64_t max_epochs = -1;              // -1: no end but by a callback or max_steps
  int64_t max_steps = -1;               // optimizer steps
  int64_t accumulate_grad_batches = 1;  // of an optimizer step
  int64_t log_every_n_steps = 50;
  int64_t check_val_every_n_epoch = 1;
  double gradient_clip_val = 0;  // 0: no clipping
  std::string gradient_clip_algorithm = "norm";
  std::string strategy = "ddp";
  std::string precision = "32-true";
  std::string memory_format = "contiguous";  // of what Conv2d layers keep and make
  std::string accelerator = "auto";
  std::string matmul_precision = "highest";
  std::string default_root_dir = "data/artifacts";
  std::string gradient_compression = "none";
  bool sync_batchnorm = false;  // statistics of the whole batch, not of each rank's share
  bool enable_progress_bar = false;
  bool enable_checkpointing = true;
  int64_t checkpoint_every_n_steps = 0;  // 0: only at the end of each epoch
  double checkpoint_every_minutes = 0;   // 0: likewise
  int64_t checkpoint_keep = 2;           // the newest so many
  std::string on_checkpoint_error = "stop";
  double hang_seconds =
      30;  // how long a rank may stand still, or 50 median steps if that is longer; 0: for ever

  int64_t seed = 0;
  std::string numerics = "ordinary";
  int64_t virtual_ranks = 8;
  int64_t threads = 0;  // 0: cores of the rank's affinity mask over the ranks that share it
  double bucket_cap_mb = 25;

  bool canonical() const { return numerics == "canonical"; }
  DType dtype() const { return precision == "64-true" ? DType::f64 : DType::f32; }
};

}  // namespace lab
