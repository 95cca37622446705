#pragma once
// Forward passes over a dataset in fixed chunks: validation and prediction.

#include <functional>
#include <memory>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/data/reader.h"
#include "lab/train/on_device.h"
#include "lab/train/parts.h"
#include "lab/train/plan.h"

namespace lab {

struct ChunkOutput {
  int64_t chunk = 0;  // which of the fixed chunks
  const Batch& batch;
  const Parts& output;
};

// Runs the model in evaluation mode, without gradients (`inference`: on processors in torch's inference
// mode), over this rank's chunks of the dataset's first `samples` in their order, where `upload` brings them,
// and hands each to `visit`, until it returns false. Leaves the module in the mode it was in. Does not
// communicate.
void for_each_chunk(const Model& model, std::shared_ptr<const Source> source, int64_t samples,
                    const DataPlan& plan, const ReaderOptions& options, const Upload& upload, bool inference,
                    int rank, int ranks, const std::function<bool(const ChunkOutput&)>& visit);

// Rows of numbers for every sample, in dataset order, on rank 0 (empty elsewhere): (samples, columns)
// doubles. Collective.
struct Prediction {
  std::vector<double> rows;
  int64_t columns = 0;
  double metric = 0;  // mean of the plan's metric, if it was computed
  bool has_metric = false;
};
// Of the first `samples`; the model is where `upload` brings batches.
Prediction predict(Communicator& comm, const InferPlan& plan, std::shared_ptr<const Source> source,
                   int64_t samples, const ReaderOptions& options, const Upload& upload, bool inference);

}  // namespace lab
