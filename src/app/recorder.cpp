#include "app/recorder.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "lab/app/progress.h"
#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/train/step_plan.h"

namespace lab {
namespace {

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double steady_time() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// As Lightning: every record carries the epoch too.
void record_points(const Values& values, int64_t step, int64_t epoch, Tracker& tracker) {
  if (values.empty()) return;
  std::vector<Scalar> points;
  for (const auto& [tag, value] : values) points.push_back({tag, step, epoch, value});
  points.push_back({"epoch", step, epoch, static_cast<double>(epoch)});
  tracker.scalars(points, wall_time());
}

struct Place {
  int64_t step = 0, epoch = 0;
};

void record_figures(const std::vector<DrawnFigure>& figures, const std::string& stage, Place place,
                    Tracker& tracker, Painter& painter) {
  for (const DrawnFigure& drawn : figures) {
    TrackedFigure figure{drawn.name, stage, place.step, place.epoch, drawn.drawing, {}};
    if (figure.drawing.title.empty())
      figure.drawing.title = text(figure.name, " (", stage, "), epoch ", place.epoch + 1);
    figure.picture = painter.paint(figure.drawing);
    tracker.figure(figure, wall_time());
  }
}

class Recorder final : public Callback {
 public:
  Recorder(const Log& log, const TrainerOptions& options, const RunFolder& folder, RunRecord& record,
           Tracker& tracker, const CheckpointSink& checkpoints, Painter& painter)
      : log_(log),
        options_(options),
        folder_(folder),
        record_(record),
        tracker_(tracker),
        checkpoints_(checkpoints),
        painter_(painter),
        progress_(log, options.enable_progress_bar, options.max_epochs, steady_time) {}

  std::string name() const override { return "recorder"; }

  void fit_started(const FitReport& report) override {
    batches_per_epoch_ = report.batches_per_epoch;
    if (!report.validates_first) progress_.fit_started(batches_per_epoch_);
  }

  void validation_started(int64_t samples) override { progress_.validation_started(chunk_count(samples)); }

  void first_validation_finished(const EpochReport& report) override {
    if (!report.values.empty()) log_.result(validation_table(report.values));
    record_points(report.values, 0, 0, tracker_);
    progress_.fit_started(batches_per_epoch_);
  }

  void validation_within_epoch_finished(const EpochReport& report) override {
    std::string line = text("Within epoch ", report.epoch + 1, ", after step ", report.step);
    for (const auto& [tag, value] : report.values) line += text(", ", tag, ' ', value);
    log_.info(line);
    record_points(report.values, report.step - 1, report.epoch, tracker_);
    record_figures(report.figures, "validate", {report.step - 1, report.epoch}, tracker_, painter_);
  }

  Signal step_finished(const StepReport& report) override {
    if (!first_step_seen_)
      log_.info("first step done ", std::round(seconds_since_start() * 1e3) / 1e3, " s after the start");
    first_step_seen_ = true;
    progress_.step(report.epoch, report.batch, report.steps_per_epoch, report.loss, report.rate);
    if ((report.step + 1) % options_.log_every_n_steps == 0) {
      Values values = {{"loss/train_step", report.loss}};
      values.insert(values.end(), report.values.begin(), report.values.end());
      record_points(values, report.step, report.epoch, tracker_);
    }
    return {};
  }

  Signal epoch_finished(const EpochReport& report) override {
    progress_.epoch_finished(report.epoch, report.values, report.samples_per_second);
    record_points(report.values, report.step - 1, report.epoch, tracker_);
    record_figures(report.figures, "validate", {report.step - 1, report.epoch}, tracker_, painter_);
    return {};
  }

  void checkpoint_saved(const EpochReport& report) override {
    record_.epochs = report.epoch + 1;
    record_.steps = report.step;
    if (const auto best = checkpoints_.best()) record_.best = best;
    try {
      folder_.write_run_json(record_);
    } catch (const IoError& e) {  // what to do about a full disk is for the checkpoints to decide
      log_.warn(e.what());
    }
  }

 private:
  Log log_;
  const TrainerOptions& options_;
  const RunFolder& folder_;
  RunRecord& record_;
  Tracker& tracker_;
  const CheckpointSink& checkpoints_;
  Painter& painter_;
  Progress progress_;
  int64_t batches_per_epoch_ = 0;
  bool first_step_seen_ = false;
};

}  // namespace

std::shared_ptr<Callback> make_recorder(const Log& log, const TrainerOptions& options,
                                        const RunFolder& folder, RunRecord& record, Tracker& tracker,
                                        const CheckpointSink& checkpoints, Painter& painter) {
  return std::make_shared<Recorder>(log, options, folder, record, tracker, checkpoints, painter);
}

void record_measured(const Log& log, MetricStage stage, const Measured& measured, const Trained& weights,
                     Tracker& tracker, Painter& painter) {
  log.result(validation_table(measured.values, stage == MetricStage::test ? "test" : "validation"));
  const int64_t step = std::max<int64_t>(weights.steps - 1, 0),
                epoch = std::max<int64_t>(weights.epochs - 1, 0);
  record_points(measured.values, step, epoch, tracker);
  record_figures(measured.figures, name_of(stage), {step, epoch}, tracker, painter);
}

}  // namespace lab
