#pragma once
// lab_train --validate-only and --test: what weights are worth, without training any.

#include "app/recorder.h"
#include "app/run_config.h"
#include "app/session.h"
#include "app/tracking.h"
#include "lab/app/run_folder.h"
#include "lab/data/source.h"
#include "lab/train/evaluation.h"
#include "lab/train/plan.h"

namespace lab {

// A set to measure on, opened.
struct MeasuredSet {
  MetricStage stage = MetricStage::validate;
  std::shared_ptr<const Source> source = {};
  int64_t samples = 0;  // its first so many
};

// The one that the command line asks for. Collective; AgreedError, also where the plan has no such data.
MeasuredSet open_measured_set(const Session& session, const RunConfig& config, const TrainPlan& plan);

// Puts the weights that are to be measured into the plan's model; `names`: of the config's runs that train.
// What steps they had. Collective; AgreedError.
Trained load_measured(const Session& session, const RunConfig& config, TrainPlan& plan,
                      const ClearmlAccess& clearml, const RunNames& names, const Upload& upload);

// The plan's model on the set; a stop by a signal leaves nothing measured. Collective; AgreedError.
Measured measure(Session& session, const RunConfig& config, const TrainPlan& plan, const MeasuredSet& set,
                 const Upload& upload, const std::function<int()>& stop_signal);

}  // namespace lab
