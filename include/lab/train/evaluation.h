#pragma once
// What a model is worth on samples that it does not learn from: its loss, metrics and figures.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/data/source.h"
#include "lab/train/on_device.h"
#include "lab/train/plan.h"

namespace lab {

// What the plan has for a stage.
const DataPlan& data_of(const TrainPlan& plan, MetricStage stage);

// How many of its samples the options leave to a stage. Throws ConfigError where a share is less than one
// batch.
int64_t samples_of(const TrainerOptions& options, MetricStage stage, const Source& source,
                   int64_t batch_size);

struct Evaluation {
  MetricStage stage = MetricStage::validate;  // or test
  std::shared_ptr<const Source> source;
  int64_t samples = 0;                                        // its first so many
  std::function<void(int64_t)> chunk_finished = [](auto) {};  // of this rank's
  std::function<int()> stop_signal = [] { return 0; };        // looked at in every chunk
};

struct Measured {
  Values values = {};  // "loss/STAGE", and those of the metrics
  std::vector<DrawnFigure> figures = {};
  int signal = 0;  // it was stopped for SIGINT or SIGTERM: nothing was measured
};

// The plan's model, as it is, where `upload` brings batches. The same bits on any number of ranks, but for
// figures of other numbers than counts. Collective; AgreedError where the plan can't compute the data.
Measured evaluate(Communicator& comm, const TrainPlan& plan, const TrainerOptions& options,
                  const Upload& upload, const Evaluation& evaluation);

// What can be known to be wrong with such an evaluation before anything is computed, each in a line; `source`
// may be null where it could not be opened. Does not communicate.
std::vector<std::string> mistakes_in_evaluation(const TrainPlan& plan, const TrainerOptions& options,
                                                MetricStage stage, const Source* source);

}  // namespace lab
