#include "app/beats.h"

namespace lab {
namespace {

class Beats final : public Callback {
 public:
  explicit Beats(Heartbeat& heartbeat) : heartbeat_(heartbeat) {}

  std::string name() const override { return "beats"; }
  void fit_started(const FitReport& report) override { train_from(report.steps_done); }
  void validation_started(int64_t) override { heartbeat_.phase(Phase::validating); }
  void validation_chunk_finished(int64_t) override { heartbeat_.moved(); }
  void first_validation_finished(const EpochReport& report) override { train_from(report.step); }
  Signal step_finished(const StepReport& report) override {
    heartbeat_.step(report.step + 1);
    return {};
  }
  Signal epoch_finished(const EpochReport& report) override {
    train_from(report.step);
    return {};
  }
  void checkpoint_started() override { heartbeat_.phase(Phase::saving); }
  void checkpoint_taken(int64_t steps_done) override { train_from(steps_done); }

 private:
  // The step of this number begins, after something else.
  void train_from(int64_t step) {
    heartbeat_.phase(Phase::training);
    heartbeat_.step(step);
  }

  Heartbeat& heartbeat_;
};

}  // namespace

std::shared_ptr<Callback> make_beats(Heartbeat& heartbeat) { return std::make_shared<Beats>(heartbeat); }

}  // namespace lab
