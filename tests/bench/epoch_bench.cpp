// Epochs of lab_train on command: the same program, and its runs are the same but for the pauses.
//   [mpirun -np N] epoch_bench CONFIG.toml [options of lab_train]
// Told a number of epochs, it does them, with their validation and checkpoint, and says seconds and accuracy
// (of the last validation). Needs trainer.init.hang_seconds = 0, for the pauses.

#include "bench/line.h"
#include "experiments/registry.h"
#include "lab/app/programs.h"
#include "lab/train/callback.h"

namespace {

// Lets the trainer do as many epochs as the script says, and stops it when there are no more to do.
class Player final : public lab::Callback {
 public:
  std::string name() const override { return "player"; }
  void first_validation_finished(const lab::EpochReport&) override { rounds_.wait(); }
  void checkpoint_saved(const lab::EpochReport& report) override {
    const auto seconds = rounds_.advance();
    if (!seconds) return;
    rounds_.say(lab::text("seconds=", *seconds,
                          " accuracy=", lab::value_of(report.values, "accuracy/validate").value_or(0)));
    rounds_.wait();
  }

 private:
  bench::Rounds rounds_;
};

lab::Experiment played(lab::Experiment experiment) {
  experiment.configure = [configure = experiment.configure](const lab::Table& root, lab::Resolved& resolved,
                                                            lab::Mistakes& mistakes) {
    auto configured = configure(root, resolved, mistakes);
    configured.train = [train = configured.train] {
      lab::TrainPlan plan = train();
      plan.callbacks.push_back(std::make_shared<Player>());
      return plan;
    };
    return configured;
  };
  return experiment;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<lab::Experiment> experiments;
  for (const auto& experiment : registered_experiments()) experiments.push_back(played(experiment));
  return lab::train_main(argc, argv, experiments);
}
