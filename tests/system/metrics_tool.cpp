// metrics_tool KIND DATA.safetensors: the metrics of the file's "output" and "labels", as an evaluation on
// these ranks computes them: a line "TAG VALUE" for each. KIND: classes, binary, logits (binary) or numbers.

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cstdio>
#include <cstring>

#include "lab/comm/world.h"
#include "lab/core/text.h"
#include "lab/train/safetensors.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"
#include "train/metric_values.h"

namespace {

using lab::Average;
using lab::named;
using Metrics = std::vector<lab::Metric>;

Metrics of_classes(int64_t classes) {
  Metrics list = {lab::accuracy(), lab::confusion_counts({.classes = classes})};
  for (const auto& [average, word] :
       {std::pair(Average::macro, "macro"), std::pair(Average::micro, "micro"),
        std::pair(Average::weighted, "weighted"), std::pair(Average::none, "none")}) {
    for (const int64_t k : {1, 2}) {
      const lab::Multiclass options = {.classes = classes, .average = average, .top_k = k};
      for (lab::Metric metric : {accuracy(options), precision(options), recall(options), f1(options)})
        list.push_back(named(metric, lab::text(metric.name, "-", word, "-", k)));
    }
    const lab::Multiclass options = {.classes = classes, .average = average};
    if (average == Average::micro) continue;
    for (lab::Metric metric : {auroc(options), average_precision(options)})
      list.push_back(named(metric, lab::text(metric.name, "-", word)));
  }
  return list;
}

Metrics of_yes_or_no(bool logits) {
  Metrics list;
  for (const double threshold : {0.5, 0.3}) {
    const lab::Binary options = {.threshold = threshold, .logits = logits};
    for (lab::Metric metric :
         {accuracy(options), precision(options), recall(options), f1(options), confusion_counts(options)})
      list.push_back(named(metric, lab::text(metric.name, "-", threshold)));
  }
  list.push_back(auroc(lab::Binary{.logits = logits}));
  list.push_back(average_precision(lab::Binary{.logits = logits}));
  return list;
}

Metrics of_numbers(int64_t columns) {
  return {lab::mean_squared_error(), lab::mean_absolute_error(), lab::r2_score(columns)};
}

at::Tensor tensor_of(const lab::SafetensorsFile& file, const char* name) {
  const lab::TensorView& view = *file.find(name);
  const at::Tensor tensor = torch::empty(view.shape, lab::scalar_type(view.type));
  std::memcpy(tensor.mutable_data_ptr(), view.data, tensor.nbytes());
  return tensor;
}

lab::Values measure(lab::Communicator& comm, const Metrics& metrics, const at::Tensor& output,
                    const at::Tensor& labels) {
  const int64_t samples = output.size(0);
  lab::OrderedSums sums(lab::chunk_count(samples), columns_of(metrics, lab::MetricStage::validate));
  lab::SampleRows rows(metrics, samples);
  const lab::Range own = lab::chunks_of(samples, comm.rank(), comm.size());
  for (int64_t index = own.first; index < own.end(); ++index) {
    const auto [first, count] = lab::chunk(samples, index);
    lab::Batch batch;
    batch.ids.resize(static_cast<size_t>(count));
    batch.parts.add("labels", labels.narrow(0, first, count));
    const lab::Parts part = output.narrow(0, first, count);
    for (size_t i = 0; i < metrics.size(); ++i)
      if (sums.has(1 + i)) sums.add(index, 1 + i, counted(metrics[i], part, batch));
    rows.add(index, part, batch);
  }
  lab::Values values;
  append_values(values, metrics, lab::MetricStage::validate, sums.totals(comm), &rows, comm);
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  lab::World world = lab::World::join(&argc, &argv);
  if (argc != 3) return 64;
  const auto comm = world.communicator(lab::Backend::automatic, lab::Log::silent());
  const std::string kind = argv[1];
  const lab::SafetensorsFile file(argv[2]);
  const at::Tensor output = tensor_of(file, "output"), labels = tensor_of(file, "labels");
  const int64_t columns = output.dim() == 2 ? output.size(1) : 1;
  const Metrics metrics = kind == "classes"   ? of_classes(columns)
                          : kind == "numbers" ? of_numbers(columns)
                                              : of_yes_or_no(kind == "logits");
  for (const auto& [tag, value] : measure(*comm, metrics, output, labels))
    if (comm->rank() == 0) std::printf("%s\t%s\n", tag.c_str(), lab::shortest(value).c_str());
  world.leave();
}
