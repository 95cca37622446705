#pragma once
// A learning rate that falls when a measured value no longer gets better.

#include <limits>
#include <string>

#include "lab/train/callback.h"

namespace lab {

// As torch.optim.lr_scheduler.ReduceLROnPlateau. Looks at the end of each epoch in which `monitor` is
// measured, and comes on top of the plan's schedule: both factors multiply the rate.
struct Plateau {
  std::string monitor = "loss/validate";
  Mode mode = Mode::min;
  double factor = 0.1;      // of the rate, each time; below 1
  int64_t patience = 10;    // epochs in a row that may be no better; the next one reduces the rate
  double threshold = 1e-4;  // what is better by less than this is no better
  bool relative = true;     // the threshold is a share of the best value
  int64_t cooldown = 0;     // epochs after a reduction in which nothing counts
  // Of the optimizer's rate: the rate does not fall below the first, nor in steps of less than the second
  // (torch's min_lr and eps, divided by the rate).
  double min_factor = 0, eps = 1e-8;
};

// One per run, which has state: what was best, how long ago, and the factor so far. The same on every rank.
class ReduceOnPlateau final : public Callback {
 public:
  // Throws ConfigError for numbers that make no sense.
  explicit ReduceOnPlateau(Plateau options);
  double factor() const { return factor_; }  // for the steps to come
  std::string name() const override { return "reduce_on_plateau"; }
  // Throws ConfigError when the monitor will not be measured.
  void fit_started(const FitReport& report) override;
  Signal epoch_finished(const EpochReport& report) override;
  std::string state() const override;
  void restore(const std::string& state) override;

 private:
  bool is_better(double value) const;
  Plateau options_;
  double best_, factor_ = 1;
  int64_t bad_epochs_ = 0, cooldown_ = 0;
};

}  // namespace lab
