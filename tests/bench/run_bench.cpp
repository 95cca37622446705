// Steps of lab_train on command, in whole runs with their folder, log, metrics and event files: what a user's
// own program does.
//   [mpirun -np N] run_bench CONFIG.toml [options of lab_train]
// Told a number of steps, it does them and says seconds and loss (their mean). Needs
// trainer.init.hang_seconds = 0, for the pauses.

#include "bench/line.h"
#include "bench/networks.h"
#include "lab/lab.h"

namespace {

struct RunConfig {
  std::string network = "mlp64";
  std::string data = "data/mnist-train.h5";
  int64_t batch_size = 32;

  static void describe(lab::Fields<RunConfig>& f) {
    using C = RunConfig;
    f("network", &C::network, lab::not_empty(), "which network");
    f("data", &C::data, lab::not_empty(), "HDF5 file with /images (N, 28, 28) and /labels (N)");
    f("batch_size", &C::batch_size, lab::between(1, 6000), "global: samples per step over all ranks");
  }
};

// Lets the trainer do as many steps as the script says, and stops it when there are no more to do.
class Player final : public lab::Callback {
 public:
  std::string name() const override { return "player"; }
  void fit_started(const lab::FitReport&) override { rounds_.wait(); }
  lab::Signal step_finished(const lab::StepReport& report) override {
    loss_ += report.loss;
    const auto seconds = rounds_.advance();
    if (!seconds) return {};
    rounds_.say(lab::text("seconds=", *seconds, " loss=", loss_ / static_cast<double>(rounds_.done())));
    loss_ = 0;
    rounds_.wait();
    return {};
  }

 private:
  bench::Rounds rounds_;
  double loss_ = 0;
};

// Epochs of 60,000 samples, as those of MNIST are.
lab::TrainPlan train(const RunConfig& c) {
  const auto digits = lab::hdf5(c.data, {"images", "labels"});
  return {
      .model = bench::network(c.network),
      .loss = lab::cross_entropy(),
      .optimizer = lab::AdamW{.lr = 1e-3, .weight_decay = 0.01},
      .train = {.dataset = lab::concat(std::vector<lab::Dataset>(10, digits)),
                .transforms = {lab::divide("images", 255), lab::add_channel("images"),
                               lab::class_index("labels", 10)}},
      .batch_size = c.batch_size,
      .callbacks = {std::make_shared<Player>()},
  };
}

lab::InferPlan nothing(const RunConfig&, lab::Arguments) { return {}; }

}  // namespace

int main(int argc, char** argv) {
  return lab::train_main(argc, argv, {lab::experiment("run", train, nothing)});
}
