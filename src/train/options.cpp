#include "lab/train/options.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lab/core/error.h"
#include "lab/train/step_plan.h"

namespace lab {

TrainerOptions with_fast_dev_run(TrainerOptions options) {
  const auto* count = std::get_if<int64_t>(&options.fast_dev_run);
  const int64_t batches = count ? *count : std::get<bool>(options.fast_dev_run);
  if (batches < 1) return options;
  options.max_epochs = 1;
  options.max_steps = batches;
  options.min_epochs = 1;
  options.log_every_n_steps = 1;
  options.check_val_every_n_epoch = 1;
  options.val_check_interval = 1.0;
  options.enable_checkpointing = false;
  for (auto* limit : {&options.limit_train_batches, &options.limit_val_batches, &options.limit_test_batches,
                      &options.limit_predict_batches})
    *limit = batches;
  return options;
}

int64_t seconds_of(const std::string& time) {
  int days = 0, hours = 0, minutes = 0, seconds = 0, read = 0;
  if (std::sscanf(time.c_str(), "%d:%d:%d:%d%n", &days, &hours, &minutes, &seconds, &read) != 4 ||
      read != static_cast<int>(time.size()) || days < 0 || hours < 0 || minutes < 0 || seconds < 0)
    return -1;
  return ((int64_t{days} * 24 + hours) * 60 + minutes) * 60 + seconds;
}

int64_t validation_interval(const TrainerOptions& options, int64_t epoch_batches) {
  const BatchLimit& interval = options.val_check_interval;
  if (const auto* batches = std::get_if<int64_t>(&interval)) {
    if (*batches > epoch_batches)
      throw ConfigError("trainer.init.val_check_interval = ", *batches, " is more than an epoch's ",
                        epoch_batches, " batches; take fewer, or see check_val_every_n_epoch");
    return *batches;
  }
  const double share = std::get<double>(interval);
  const auto batches = static_cast<int64_t>(std::floor(static_cast<double>(epoch_batches) * share));
  if (batches < 1)
    throw ConfigError("trainer.init.val_check_interval = ", shortest(share), " of ", epoch_batches,
                      epoch_batches == 1 ? " batch" : " batches",
                      " is less than one; take a larger share, or 1 for one");
  return batches;
}

int64_t limited_samples(const BatchLimit& limit, int64_t samples, int64_t batch_size,
                        const std::string& key) {
  const int64_t all = batches_per_epoch(samples, batch_size);
  if (const auto* count = std::get_if<int64_t>(&limit))
    return std::min(samples, std::min(*count, all) * batch_size);
  const double share = std::get<double>(limit);
  const auto batches = static_cast<int64_t>(std::floor(static_cast<double>(all) * share));
  if (batches < 1 && share > 0 && all > 0)
    throw ConfigError("trainer.init.", key, " = ", shortest(share), " of ", all,
                      all == 1 ? " batch" : " batches",
                      " is less than one; take a larger share, or 1 for one batch");
  return std::min(samples, batches * batch_size);
}

}  // namespace lab
