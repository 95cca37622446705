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

namespace lab {

// Refers to folder, record, tracker, checkpoints and painter, which must outlive it.
std::shared_ptr<Callback> make_recorder(const Log& log, const TrainerOptions& options,
                                        const RunFolder& folder, RunRecord& record, Tracker& tracker,
                                        const CheckpointSink& checkpoints, Painter& painter);

}  // namespace lab
