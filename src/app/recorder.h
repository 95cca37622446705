#pragma once
// What rank 0 keeps of a run: scalars for the trackers, lines for people, the truth in run.json.

#include <memory>

#include "app/run_config.h"
#include "lab/app/run_folder.h"
#include "lab/core/log.h"
#include "lab/draw/picture.h"
#include "lab/track/tracker.h"
#include "lab/train/callback.h"
#include "lab/train/checkpoint.h"
#include "lab/train/evaluation.h"

namespace lab {

// Refers to folder, record, tracker, checkpoints and painter, which must outlive it.
std::shared_ptr<Callback> make_recorder(const Log& log, const TrainerOptions& options,
                                        const RunFolder& folder, RunRecord& record, Tracker& tracker,
                                        const CheckpointSink& checkpoints, Painter& painter);

// What was measured of weights that had taken so many steps, in so many epochs: a table on standard output,
// and points and figures of its stage, where training would have them.
struct Trained {
  int64_t epochs = 0, steps = 0;
};
void record_measured(const Log& log, MetricStage stage, const Measured& measured, const Trained& weights,
                     Tracker& tracker, Painter& painter);

}  // namespace lab
