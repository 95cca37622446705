#pragma once
// What a model says of samples: one row for each, in the order of the dataset.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/data/reader.h"
#include "lab/data/table.h"
#include "lab/train/on_device.h"
#include "lab/train/plan.h"

namespace lab {

struct Prediction {
  // On rank 0, empty elsewhere: what the plan's `rows` gives, then the metadata. A column of metadata is i64,
  // f64 where one of its numbers is no whole one, or texts.
  std::vector<TableColumn> columns;
  std::optional<double> metric;  // of the plan, if the data has what it needs
};

// Of the first `samples`; the model is where `upload` brings batches. `metadata`: names, of samples. Each
// rank keeps the rows of its own samples, and rank 0 in the end those of all. The same on any number of
// ranks. Collective; AgreedError.
Prediction predict(Communicator& comm, const InferPlan& plan, const std::vector<std::string>& metadata,
                   std::shared_ptr<const Source> source, int64_t samples, const ReaderOptions& options,
                   const Upload& upload, bool inference);

}  // namespace lab
