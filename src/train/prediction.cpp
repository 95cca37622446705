#include "lab/train/prediction.h"

#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/evaluator.h"
#include "lab/train/ordered_sums.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"
#include "train/explained.h"
#include "train/gather.h"
#include "train/metric_values.h"

namespace lab {
namespace {

std::vector<std::byte> bytes_of(const at::Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.nbytes());
  if (!bytes.empty()) std::memcpy(bytes.data(), tensor.const_data_ptr(), bytes.size());
  return bytes;
}

// On the host, of a type that tables have.
at::Tensor for_a_table(at::Tensor tensor, const std::string& name) {
  if (tensor.is_complex() || tensor.is_quantized())
    throw ConfigError("the experiment's rows ", quoted(name), " are of the type ", tensor.scalar_type(),
                      ", which no table has; make real numbers of them");
  if (tensor.scalar_type() == torch::kBool) tensor = tensor.to(torch::kUInt8);
  if (tensor.scalar_type() == torch::kHalf || tensor.scalar_type() == torch::kBFloat16)
    tensor = tensor.to(torch::kFloat32);
  return tensor.to(torch::kCPU).contiguous();
}

TableColumn column_of(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor numbers = for_a_table(tensor, name);
  return {.name = name,
          .type = dtype_of(numbers.scalar_type()),
          .shape = numbers.sizes().slice(1).vec(),
          .bytes = bytes_of(numbers)};
}

// The columns of one chunk. Throws ConfigError for rows that are not those of its samples.
std::vector<TableColumn> columns_in(const InferPlan& plan, const Parts& rows, int64_t samples) {
  std::vector<TableColumn> columns;
  for (const auto& [name, tensor] : rows.entries()) {
    if (!tensor.defined() || tensor.dim() < 1 || tensor.size(0) != samples)
      throw ConfigError("the experiment's rows ", quoted(name), " are a tensor ",
                        tensor.defined() ? text(tensor.sizes()) : "without values", " for ", samples,
                        " samples; their first dimension must be those");
    if (!name.empty()) {
      columns.push_back(column_of(name, tensor));
      continue;
    }
    const auto named = std::ssize(plan.columns);
    if (named == 1) {
      columns.push_back(column_of(plan.columns[0], tensor.numel() == samples ? tensor.flatten() : tensor));
      continue;
    }
    const at::Tensor flat = tensor.reshape({samples, -1});
    if (flat.size(1) != named)
      throw ConfigError("the experiment's rows have ", flat.size(1), " columns, but it names ", named);
    for (int64_t i = 0; i < named; ++i)
      columns.push_back(column_of(plan.columns[static_cast<size_t>(i)], flat.select(1, i)));
  }
  return columns;
}

// "prediction i64 [10]" and so on, in lines.
std::string describe(const std::vector<TableColumn>& columns) {
  std::string out;
  for (const TableColumn& column : columns)
    out += text(column.name, ' ', name_of(column.type), ' ', at::IntArrayRef(column.shape), '\n');
  return out;
}

// This rank's rows, chunk by chunk.
class OwnRows {
 public:
  OwnRows(const InferPlan& plan, const std::vector<std::string>& metadata)
      : plan_(plan), names_(metadata), metadata_(metadata.size()) {}

  void add(const ChunkOutput& chunk) {
    const int64_t samples = chunk.batch.count();
    const Parts rows = explained("rows", chunk.batch, [&] { return plan_.rows(chunk.output); });
    std::vector<TableColumn> columns = columns_in(plan_, rows, samples);
    if (columns_.empty()) {
      std::vector<std::string> names = names_;
      for (const TableColumn& column : columns) names.push_back(column.name);
      require_column_names(names);
      columns_ = std::move(columns);
    } else {
      if (describe(columns) != describe(columns_))
        throw ConfigError("the experiment's rows differ between chunks of samples:\n", describe(columns_),
                          "and then:\n", describe(columns), "give each sample the same");
      for (size_t i = 0; i < columns.size(); ++i)
        columns_[i].bytes.insert(columns_[i].bytes.end(), columns[i].bytes.begin(), columns[i].bytes.end());
    }
    for (size_t i = 0; i < names_.size(); ++i)
      for (int64_t s = 0; s < samples; ++s)
        metadata_[i].push_back(chunk.metadata.empty() ? Metadata()[names_[i]]
                                                      : chunk.metadata[static_cast<size_t>(s)][names_[i]]);
  }

  // Of all ranks, on rank 0. Collective.
  std::vector<TableColumn> gathered(Communicator& comm) {
    if (comm.rank() == 0 && columns_.empty())  // there are no samples
      for (const std::string& name : plan_.columns) columns_.push_back({.name = name});
    const std::string first = broadcast_bytes(comm, describe(columns_));
    agree(comm, [&] {
      if (!columns_.empty() && describe(columns_) != first)
        throw ConfigError("the experiment's rows differ between ranks:\n", first, "and here:\n",
                          describe(columns_), "give each sample the same");
    });
    const Errand errand("predictions");
    for (TableColumn& column : columns_of_all(comm)) column.bytes = gather(comm, std::move(column.bytes));
    for (size_t i = 0; i < names_.size(); ++i) {
      auto values = gather_values(comm, metadata_[i]);
      if (comm.rank() == 0) columns_.push_back(column_of_metadata(names_[i], values));
    }
    return comm.rank() == 0 ? std::move(columns_) : std::vector<TableColumn>();
  }

 private:
  // A rank without samples has none of its own, but takes part.
  std::vector<TableColumn>& columns_of_all(Communicator& comm) {
    auto count = std::ssize(columns_);
    comm.broadcast({&count, 1, DType::i64}, 0);
    columns_.resize(static_cast<size_t>(count));
    return columns_;
  }

  const InferPlan& plan_;
  const std::vector<std::string>& names_;
  std::vector<TableColumn> columns_;
  std::vector<std::vector<MetadataValue>> metadata_;  // of each name
};

// What the metric is of all samples; nothing where no batch had what it needs. Collective.
std::optional<double> metric_of(Communicator& comm, const std::vector<Metric>& metrics, bool counted,
                                const OrderedSums& sums, const SampleRows& kept) {
  int64_t any = counted;
  comm.all_reduce({&any, 1, DType::i64}, ReduceOp::max);  // a rank without chunks does not know
  if (any == 0) return std::nullopt;
  Values values;
  append_values(values, metrics, MetricStage::validate, sums.totals(comm), &kept, comm);
  agree(comm, [&] {
    if (values.size() != 1)
      throw ConfigError("a prediction's metric has one value, not the ", values.size(), " of ",
                        quoted(metrics[0].name));
  });
  return values[0].second;
}

}  // namespace

Prediction predict(Communicator& comm, const InferPlan& plan, const std::vector<std::string>& metadata,
                   std::shared_ptr<const Source> source, int64_t samples, const ReaderOptions& options,
                   const Upload& upload, bool inference) try {
  std::vector<Metric> metrics;
  if (plan.metric) metrics = {*plan.metric};
  OrderedSums sums(chunk_count(samples), columns_of(metrics, MetricStage::validate), upload.device());
  SampleRows kept(metrics, samples);
  OwnRows rows(plan, metadata);
  bool has_metric = false;
  agree(comm, [&] {
    for (const auto& callback : plan.callbacks) callback->prediction_started(samples);
  });
  const auto visit = [&](const ChunkOutput& chunk) {
    rows.add(chunk);
    for (const auto& callback : plan.callbacks) callback->prediction_chunk_finished(chunk.chunk);
    if (!plan.metric || !chunk.batch.parts.has(plan.metric_needs)) return true;
    if (sums.has(1)) sums.add(chunk.chunk, 1, counted(metrics[0], chunk.output, chunk.batch));
    kept.add(chunk.chunk, chunk.output, chunk.batch);
    has_metric = true;
    return true;
  };
  agree(comm, [&] {
    for_each_chunk(plan.model, std::move(source), samples, plan.data, options, upload, inference, comm.rank(),
                   comm.size(), visit);
  });
  Prediction prediction;
  prediction.columns = rows.gathered(comm);
  if (plan.metric) prediction.metric = metric_of(comm, metrics, has_metric, sums, kept);
  agree(comm, [&] {
    for (const auto& callback : plan.callbacks) callback->prediction_finished(prediction.columns);
  });
  return prediction;
} catch (const std::exception& e) {
  for (const auto& callback : plan.callbacks) try {
      callback->failed(e);
    } catch (const std::exception&) {  // what has failed is told, not this
    }
  throw;
}

}  // namespace lab
