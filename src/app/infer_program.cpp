// lab_infer: from weights and a dataset to one file of predictions.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <iostream>

#include "app/earlier_task.h"
#include "app/place_model.h"
#include "app/session.h"
#include "lab/app/programs.h"
#include "lab/app/progress.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/data/table.h"
#include "lab/train/checkpoint.h"
#include "lab/train/prediction.h"
#include "lab/train/step_plan.h"

namespace lab {
namespace {

// What of the samples goes into the table: the plan's, and the config's.
std::vector<std::string> metadata_of(const InferPlan& plan, const RunConfig& config) {
  std::vector<std::string> names = plan.metadata;
  for (const std::string& name : config.predict.metadata)
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  return names;
}

// The plan's data, with what the config wants to know of its samples.
Dataset dataset_of(const InferPlan& plan, const RunConfig& config) {
  const Dataset& dataset = plan.data.dataset;
  const bool is_file = !dataset.fields().empty();
  return is_file ? dataset.with_metadata(metadata_of(plan, config)) : dataset;
}

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

// Whatever would be found out at the end only. On rank 0.
void check_output(const InferPlan& plan, const std::string& weights) {
  if (plan.output.empty()) return;
  std::vector<std::string> inputs = plan.data.dataset.files();
  inputs.push_back(weights);
  for (const std::string& input : inputs)
    if (is_same_file(input, plan.output))
      throw UsageError("the predictions would replace ", input,
                       ", which they are made of; name another file");
  const auto parent = std::filesystem::path(plan.output).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (access(folder.c_str(), W_OK | X_OK) != 0)
    throw IoError("cannot write ", plan.output, ": ", folder, ": ", system_error_text(errno),
                  "; make that folder, or name another file");
}

// Before anything is computed: names, and that samples have what is asked of them (transforms may add it).
void check_columns(const InferPlan& plan, const std::vector<std::string>& metadata, const Source& source) {
  require_column_names(metadata);
  if (metadata.empty() || source.size() == 0 || !plan.data.transforms.empty()) return;
  const Metadata first = source.metadata(0);
  for (const std::string& name : metadata) first[name];
}

// The weights that the command line names, or else the config, in the plan's model. On rank 0.
void load(const Session& session, const RunConfig& config, InferPlan& plan) {
  if (plan.weights.empty()) plan.weights = words_for_weights(config);
  const WeightsFile file = weights_file(session, config, plan.weights);
  plan.weights = file.path();
  check_output(plan, plan.weights);
  const bool averaged = plan.averaged.value_or(validated_average(file) && has_average(file));
  averaged ? load_average(file, plan.model.module()) : load_weights(file, plan.model.module());
  session.log.info("predicting with ", averaged ? "the average of the weights in " : "", plan.weights);
}

// "accuracy 0.981 (981 of 1000)"
std::string line_of(const Metric& metric, double value, int64_t samples) {
  const std::string line = text(metric.name, " ", shortest(std::round(value * 1e4) / 1e4));
  if (!metric.is_share || !std::isfinite(value)) return line;
  return text(line, " (", std::llround(value * static_cast<double>(samples)), " of ", samples, ")");
}

void infer(Session& session, const std::vector<Experiment>& experiments) {
  const RunConfig config =
      load_run_config(session.comm(), session.line.config, session.line.sets, experiments);
  // One thread per rank, whatever the numerics: predictions do not depend on how many cores there are.
  const Upload upload(start_computing(session, config.trainer, 1));
  InferPlan plan;
  Dataset dataset;
  agree(session.comm(), [&] {
    plan = config.experiment.infer(session.line.arguments);
    if (!plan.output.empty()) table_format_of(plan.output);
    dataset = dataset_of(plan, config);
  });
  const auto source = open_sources(session.comm(), {dataset}).front();
  const std::vector<std::string> metadata = metadata_of(plan, config);
  std::string data;
  int64_t samples = 0;
  agree(session.comm(), [&] {
    data = source->identity();
    check_columns(plan, metadata, *source);
    samples = limited_samples(config.trainer.limit_predict_batches, source->size(), chunk_positions,
                              "limit_predict_batches");
  });
  require_equal(session.comm(), {"data set", data});
  place_model(session, config.trainer, plan.model, upload, [&] { load(session, config, plan); });
  session.log.info("predicting ", samples, " samples of ", source->path());
  if (session.comm().rank() == 0)
    plan.callbacks.push_back(prediction_progress(session.log, session.comm().size()));
  const Prediction prediction =
      predict(session.comm(), plan, metadata, source, samples,
              {static_cast<uint64_t>(config.trainer.seed), false, config.trainer.dtype(), 2}, upload,
              config.trainer.inference_mode);
  agree(session.comm(), [&] {
    if (session.comm().rank() == 0 && !plan.output.empty())
      write_table(plan.output, samples, prediction.columns);
  });
  if (!plan.output.empty()) session.log.info("wrote ", plan.output);
  if (session.comm().rank() == 0 && prediction.metric)
    std::cout << line_of(*plan.metric, *prediction.metric, samples) << std::endl;
}

}  // namespace

int infer_main(int argc, char** argv, const std::vector<Experiment>& experiments) {
  return run_session(Program::infer, argc, argv, experiments, [&](Session& session) {
    infer(session, experiments);
    return ExitCode::done;
  });
}

}  // namespace lab
