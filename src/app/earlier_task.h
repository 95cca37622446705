#pragma once
// What an earlier task, or a file that it left, gives a program to begin with. On rank 0, which fetches and
// reads for all: to be called within agree().

#include <cstdint>
#include <optional>
#include <string>

#include "app/resume.h"
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

// What --validate-only and --test measure: the newest checkpoint of the run that --resume means (`names`: of
// runs that train), or what [checkpoint] and trainer.fit.ckpt_path name; nullopt: nothing, which is said.
// Throws what the two above throw.
std::optional<WeightsFile> weights_to_measure(const Session& session, const RunConfig& config,
                                              const ClearmlAccess& access, const RunNames& names);

// Which words name the weights that lab_infer is to take where its command line names none:
// trainer.predict.ckpt_path, or else the model of [checkpoint]. Throws UsageError where there are none.
std::string words_for_weights(const RunConfig& config);

}  // namespace lab
