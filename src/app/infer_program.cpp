// lab_infer: from weights and a dataset to one file of predictions.

#include <cmath>
#include <iostream>

#include "app/earlier_task.h"
#include "app/session.h"
#include "lab/app/programs.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/train/checkpoint.h"
#include "lab/train/evaluator.h"
#include "lab/train/flat.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

std::string csv_of(const InferPlan& plan, const Prediction& prediction) {
  std::string out = text("index,", join(plan.columns, ","), "\n");
  const auto columns = static_cast<size_t>(prediction.columns);
  for (size_t i = 0; i < prediction.rows.size() / columns; ++i) {
    out += std::to_string(i);
    for (size_t c = 0; c < columns; ++c) {
      const double value = prediction.rows[i * columns + c];
      const bool whole = std::floor(value) == value && std::abs(value) < 1e15;
      out += ",";
      out += whole ? std::to_string(static_cast<int64_t>(value)) : shortest(value);
    }
    out += "\n";
  }
  return out;
}

void infer(Session& session, const std::vector<Experiment>& experiments) {
  const RunConfig config =
      load_run_config(session.comm(), session.line.config, session.line.sets, experiments);
  // One thread per rank, whatever the numerics: predictions do not depend on how many cores there are.
  const Upload upload(start_computing(session, config.trainer, 1));
  InferPlan plan;
  agree(session.comm(), [&] { plan = config.experiment.infer(session.line.arguments); });
  const auto sources = open_sources(session.comm(), {plan.data.dataset});
  std::string data;
  agree(session.comm(), [&] { data = sources[0]->identity(); });
  require_equal(session.comm(), {"data set", data});
  agree(session.comm(), [&] {
    set_precision(plan.model, config.trainer);
    if (session.comm().rank() == 0) {
      const WeightsFile file = weights_file(session, config, plan.weights);
      plan.weights = file.path();
      load_weights(file, plan.model.module());
    }
  });
  broadcast_model(session.comm(), plan.model.module());
  agree(session.comm(), [&] { plan.model.module().to(upload.device()); });
  if (config.trainer.memory_format == "channels_last") order_channels_last(plan.model.module());
  int64_t samples = 0;
  agree(session.comm(), [&] {
    samples = limited_samples(config.trainer.limit_predict_batches, sources[0]->size(), chunk_positions,
                              "limit_predict_batches");
  });
  session.log.info("predicting ", samples, " samples of ", sources[0]->path(), " with ", plan.weights);
  const Prediction prediction =
      predict(session.comm(), plan, sources[0], samples,
              {static_cast<uint64_t>(config.trainer.seed), false, config.trainer.dtype(), 2}, upload,
              config.trainer.inference_mode);
  agree(session.comm(), [&] {
    if (session.comm().rank() == 0) write_file_atomically(plan.output, csv_of(plan, prediction));
  });
  session.log.info("wrote ", plan.output);
  if (session.comm().rank() != 0 || !prediction.has_metric) return;
  std::cout << plan.metric->name << " " << shortest(std::round(prediction.metric * 1e4) / 1e4) << " ("
            << std::llround(prediction.metric * static_cast<double>(samples)) << " of " << samples << ")"
            << std::endl;
}

}  // namespace

int infer_main(int argc, char** argv, const std::vector<Experiment>& experiments) {
  return run_session(Program::infer, argc, argv, experiments, [&](Session& session) {
    infer(session, experiments);
    return ExitCode::done;
  });
}

}  // namespace lab
