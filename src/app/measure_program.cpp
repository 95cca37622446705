#include "app/measure_program.h"

#include "app/earlier_task.h"
#include "app/place_model.h"
#include "app/recorder.h"
#include "lab/comm/agreement.h"
#include "lab/train/checkpoint.h"

namespace lab {
namespace {

[[noreturn]] void refuse_without_data(MetricStage stage) {
  if (stage == MetricStage::test)
    throw ConfigError("the experiment has no test data: give its plan test_data (of mnist that is ",
                      "config.test_data = \"FILE.h5\"), or measure on its validation data with ",
                      "--validate-only");
  throw ConfigError(
      "the experiment has no validation data: give its plan some to validate, or measure on its "
      "test data with --test");
}

// What the file's weights have behind them, as far as it tells.
Trained progress_of(const WeightsFile& file) {
  Trained trained;
  for (const auto& [name, value] : file.progress())
    if (const auto* number = std::get_if<int64_t>(&value)) {
      if (name == "epoch") trained.epochs = *number + 1;
      if (name == "global_step") trained.steps = *number;
    }
  if (trained.steps == 0) trained.epochs = 0;
  return trained;
}

// As the trainer validates: of the average, where the plan says so and there is one.
void load_as_validated(const Session& session, const WeightsFile& file, TrainPlan& plan) {
  const bool averaged = plan.ema && plan.ema->validate && has_average(file);
  session.log.info("measuring the ", averaged ? "average of the weights" : "weights", " in ", file.path());
  averaged ? load_average(file, plan.model.module()) : load_weights(file, plan.model.module());
}

}  // namespace

MeasuredSet open_measured_set(const Session& session, const RunConfig& config, const TrainPlan& plan) {
  MeasuredSet set{.stage = session.line.test ? MetricStage::test : MetricStage::validate};
  const Dataset& dataset = data_of(plan, set.stage).dataset;
  agree(session.comm(), [&] {
    if (dataset.empty()) refuse_without_data(set.stage);
  });
  set.source = open_sources(session.comm(), {dataset}).front();
  agree(session.comm(), [&] {
    if (set.source->size() == 0)
      throw DataError(set.source->path(), " has no samples; give it a file that has, or take more of it");
    const auto wrong = mistakes_in_evaluation(plan, config.trainer, set.stage, set.source.get());
    if (!wrong.empty()) throw ConfigError(join(wrong, "\n"));
    set.samples = samples_of(config.trainer, set.stage, *set.source, plan.batch_size);
  });
  return set;
}

Trained load_measured(const Session& session, const RunConfig& config, TrainPlan& plan,
                      const ClearmlAccess& clearml, const RunNames& names, const Upload& upload) {
  Trained trained;
  place_model(session, config.trainer, plan.model, upload, [&] {
    const auto file = weights_to_measure(session, config, clearml, names);
    if (!file) return;
    load_as_validated(session, *file, plan);
    trained = progress_of(*file);
  });
  return trained;
}

Measured measure(Session& session, const RunConfig& config, const TrainPlan& plan, const MeasuredSet& set,
                 const Upload& upload, const std::function<int()>& stop_signal) {
  const auto watch = [&](const auto& tell) {  // who watches a validation of the trainer's, watches this one
    if (set.stage != MetricStage::validate) return;
    for (const auto& callback : plan.callbacks) tell(*callback);
  };
  Heartbeat& heartbeat = session.world.heartbeat();
  heartbeat.phase(Phase::validating);
  session.log.info("measuring on ", set.samples, " of ", set.source->size(), " samples of ",
                   set.source->path());
  agree(session.comm(),
        [&] { watch([&](Callback& callback) { callback.validation_started(set.samples); }); });
  const Measured measured =
      evaluate(session.comm(), plan, config.trainer, upload,
               {.stage = set.stage,
                .source = set.source,
                .samples = set.samples,
                .chunk_finished =
                    [&](int64_t chunk) {
                      heartbeat.moved();
                      watch([&](Callback& callback) { callback.validation_chunk_finished(chunk); });
                    },
                .stop_signal = stop_signal});
  if (measured.signal != 0) return measured;
  agree(session.comm(),
        [&] { watch([&](Callback& callback) { callback.validation_finished(measured.values); }); });
  return measured;
}

}  // namespace lab
