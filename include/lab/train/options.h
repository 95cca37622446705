#pragma once
// How to train, apart from what the experiment says: Lightning's Trainer arguments, by the same names, and
// lab's own.

#include <cstdint>
#include <string>
#include <variant>

#include "lab/core/dtype.h"

namespace lab {

// So many batches, or such a share of them, rounded down.
using BatchLimit = std::variant<int64_t, double>;

struct TrainerOptions {
  int64_t max_epochs = -1;    // -1: no end but by a callback or max_steps
  int64_t max_steps = -1;     // optimizer steps
  int64_t min_epochs = 0;     // callbacks can't stop a run before
  int64_t min_steps = 0;      // nor before so many steps
  std::string max_time = {};  // "DD:HH:MM:SS" of one start; empty: no limit
  BatchLimit limit_train_batches = 1.0;
  BatchLimit limit_val_batches = 1.0;
  BatchLimit limit_test_batches = 1.0;
  BatchLimit limit_predict_batches = 1.0;
  BatchLimit overfit_batches = 0.0;                  // the first so many, of both stages, in their order
  std::variant<bool, int64_t> fast_dev_run = false;  // a few batches to see that all of it works
  int64_t accumulate_grad_batches = 1;               // of an optimizer step
  int64_t log_every_n_steps = 50;
  int64_t check_val_every_n_epoch = 1;
  BatchLimit val_check_interval = 1.0;  // within an epoch that ends with a validation
  int64_t num_sanity_val_steps = -1;    // batches of the validation before the first step; -1: all, 0: none
  double gradient_clip_val = 0;         // 0: no clipping
  std::string gradient_clip_algorithm = "norm";
  std::string strategy = "ddp";
  std::string precision = "32-true";
  std::string memory_format = "contiguous";  // of what Conv2d layers keep and make
  std::string accelerator = "auto";
  std::variant<int64_t, std::string> devices = "auto";  // ranks per node
  int64_t num_nodes = 1;
  std::variant<bool, std::string> deterministic = false;  // torch's; "warn": where it can't, it says so
  bool benchmark = false;                                 // of cuDNN's algorithms
  bool detect_anomaly = false;                            // of autograd
  std::string on_non_finite = "stop";                     // what a step's sums that are not finite lead to
  bool inference_mode = true;                             // in validation and prediction
  bool enable_model_summary = true;
  std::string matmul_precision = "highest";
  std::string default_root_dir = "data/artifacts";
  std::string gradient_compression = "none";
  bool sync_batchnorm = false;  // statistics of the whole batch, not of each rank's share
  bool enable_progress_bar = false;
  bool enable_checkpointing = true;
  int64_t checkpoint_every_n_epochs = 1;
  int64_t checkpoint_every_n_steps = 0;  // 0: only at the end of each epoch
  double checkpoint_every_minutes = 0;   // 0: likewise
  int64_t checkpoint_keep = 2;           // the newest so many; -1: all
  int64_t checkpoint_top_k = 1;          // and so many of the best; -1: all
  std::string checkpoint_filename = {};  // of the best; empty: they have the names of all checkpoints
  std::string on_checkpoint_error = "stop";
  double hang_seconds =
      30;  // how long a rank may stand still, or 50 median steps if that is longer; 0: for ever

  int64_t seed = 0;
  std::string numerics = "ordinary";
  int64_t virtual_ranks = 8;
  int64_t threads = 0;  // 0: cores of the rank's affinity mask over the ranks that share it
  double bucket_cap_mb = 25;

  bool canonical() const { return numerics == "canonical"; }
  // Of data.
  DType dtype() const { return precision == "64-true" ? DType::f64 : DType::f32; }
  // Of parameters.
  DType parameter_type() const { return precision == "bf16-true" ? DType::bf16 : dtype(); }
};

// With what fast_dev_run means: one epoch of a few batches, nothing saved, nothing stopped early.
TrainerOptions with_fast_dev_run(TrainerOptions options);
// Seconds of "DD:HH:MM:SS"; -1 for what is none.
int64_t seconds_of(const std::string& time);
// After so many batches there is a validation, of an epoch that has so many. Throws ConfigError for more than
// those, and for a share that is less than one batch.
int64_t validation_interval(const TrainerOptions& options, int64_t epoch_batches);
// How many of these samples are in the batches that a limit leaves. Throws ConfigError where a share is less
// than one batch. `key`: what the limit is called.
int64_t limited_samples(const BatchLimit& limit, int64_t samples, int64_t batch_size, const std::string& key);

}  // namespace lab
