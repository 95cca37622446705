#pragma once
// Forward passes over a dataset in fixed chunks, of which validation, test and prediction are made.

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
  const std::vector<Metadata>& metadata;  // of each sample; none where no sample has any
};

// Runs the model in evaluation mode, without gradients (`inference`: on processors in torch's inference
// mode), over this rank's chunks of the dataset's first `samples` in their order, where `upload` brings them,
// and hands each to `visit`, until it returns false. Leaves the module in the mode it was in. Does not
// communicate.
void for_each_chunk(const Model& model, std::shared_ptr<const Source> source, int64_t samples,
                    const DataPlan& plan, const ReaderOptions& options, const Upload& upload, bool inference,
                    int rank, int ranks, const std::function<bool(const ChunkOutput&)>& visit);

}  // namespace lab
