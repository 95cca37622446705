#pragma once
// What an earlier task, or a file that it left, gives a program to begin with. On rank 0, which fetches and
// reads for all: to be called within agree().

#include <cstdint>
#include <optional>
#include <string>

#include "app/run_config.h"
#include "app/session.h"
#include "app/tracking.h"
#include "lab/train/earlier_run.h"

namespace lab {

// The file that `words` name, read: as they stand, or the model of a task for "task:ID" and "task:ID/NAME",
// which is fetched. The server's settings are looked at only then. Throws what fetch_model and WeightsFile
// throw, ConfigError, and UsageError.
WeightsFile weights_file(const Session& session, const RunConfig& config, const std::string& words);

// What [checkpoint] and trainer.fit.ckpt_path let a new run go on from; nullopt: nothing, or the weights
// only, which the plan's module then has. samples: of the training set. Throws what fetch_model, WeightsFile
// and EarlierRun throw, and ConfigError.
std::optional<EarlierRun> earlier_run(const Session& session, const RunConfig& config,
                                      const ClearmlAccess& access, const TrainPlan& plan, int64_t samples);

}  // namespace lab
