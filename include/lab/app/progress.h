#pragma once
// What a person sees of a run: lines in the log, and on a terminal a bar if it was asked for.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "lab/core/log.h"
#include "lab/train/callback.h"

namespace lab {

using Clock = std::function<double()>;  // seconds since any moment

// A value in at most six digits.
std::string shown(double value);

// The table that goes to standard output after the first validation, or what else was measured before or
// without training; at most 80 columns.
std::string validation_table(const Values& values, const std::string& title = "first validation");

// The bar as text, at most 79 columns and ten times a second; for one thread.
//   epoch 3/20 [=====       ] 18/43, loss 0.1234, rate 0.0015, 0:12 left
class ProgressBar {
 public:
  ProgressBar(int64_t max_epochs, Clock clock);  // max_epochs -1: without end

  // After a batch; it and the epoch count from 0, rate is the learning rate. nullopt: too soon to show.
  std::optional<std::string> step(int64_t epoch, int64_t batch, int64_t batches, double loss, double rate);

 private:
  std::string time_left(int64_t epoch, int64_t batch, int64_t batches, double now);

  int64_t max_epochs_;
  Clock clock_;
  double shown_at_ = -1e300;
  // The first batch seen of the current epoch, and when: a resumed epoch does not begin with batch 0.
  int64_t epoch_ = -1, first_batch_ = 0;
  double first_time_ = 0;
};

// Made on rank 0 only; for one thread. Epochs and batches count from 0 here, from 1 in what is shown.
class Progress {
 public:
  // bar: show one where the log is a terminal.
  Progress(Log log, bool bar, int64_t max_epochs, Clock clock);

  void fit_started(int64_t batches);
  void validation_started(int64_t batches);
  void step(int64_t epoch, int64_t batch, int64_t batches, double loss, double rate);
  // samples_per_second 0: not known.
  void epoch_finished(int64_t epoch, const Values& values, double samples_per_second);
  void finished();  // takes the bar away

 private:
  Log log_;
  bool shows_bar_;
  int64_t max_epochs_;
  ProgressBar bar_;
};

// Says on rank 0 how far a prediction is: where the log is a terminal all the time, else every ten seconds.
std::shared_ptr<Callback> prediction_progress(Log log, int ranks);

}  // namespace lab
