// Steps of training on command, as lab_train does them: the same start, reader, reducer, optimizer and loop.
//   [mpirun -np N] step_bench [silent] CONFIG.toml [--set KEY=VALUE ...]
// silent: gradients are not summed over the ranks; what is left is the step without its communication. Told a
// number of steps, it does them and says seconds, loss (their mean), and of each step the sums over ranks
// (collectives) and their bytes.

#include "app/session.h"
#include "bench/line.h"
#include "bench/networks.h"
#include "forwarding.h"
#include "lab/core/signals.h"
#include "lab/lab.h"
#include "lab/train/seed.h"
#include "lab/train/trainer.h"

namespace {

struct StepConfig {
  std::string network = "mlp";
  std::string data = "data/mnist-train.h5";
  int64_t batch_size = 128;

  static void describe(lab::Fields<StepConfig>& f) {
    using C = StepConfig;
    f("network", &C::network, lab::one_of({"mlp", "mlp10m", "mlp64", "cnn", "digits"}), "which network");
    f("data", &C::data, lab::not_empty(), "HDF5 file with /images (N, 28, 28) and /labels (N)");
    f("batch_size", &C::batch_size, lab::between(1, 6000), "global: samples per step over all ranks");
  }
};

// Whole batches of the 6,000 digits, in the file's order.
lab::TrainPlan plan(const StepConfig& c) {
  const auto digits = lab::hdf5(c.data, {"images", "labels"}).take(6000 / c.batch_size * c.batch_size);
  return {
      .model = bench::network(c.network),
      .loss = lab::cross_entropy(),
      .optimizer = lab::AdamW{.lr = 1e-3, .weight_decay = 0.01},
      .train = {.dataset = digits,
                .transforms = {lab::divide("images", 255), lab::add_channel("images"),
                               lab::class_index("labels", 10)}},
      .batch_size = c.batch_size,
  };
}

lab::InferPlan nothing(const StepConfig&, lab::Arguments) { return {}; }

// The ranks' group, with its sums of gradients counted; silent: in a step no rank waits for another, or looks
// at what it has.
class Counted final : public lab::test::Forwarding {
 public:
  Counted(lab::Communicator& inner, bool silent) : Forwarding(inner), silent_(silent) {}
  void all_reduce(lab::Buffer buffer, lab::ReduceOp op) override {
    if (buffer.type == lab::DType::f32) count(buffer.bytes());
    if (!silent_ || !in_step) Forwarding::all_reduce(buffer, op);
  }
  void all_reduce_bf16(lab::Buffer sums) override {
    count(sums.bytes());
    if (!silent_ || !in_step) Forwarding::all_reduce_bf16(sums);
  }
  void exchange(std::span<const lab::Message> sends, std::span<const lab::Message> receives) override {
    for (const auto& message : sends) count(message.buffer.bytes());
    Forwarding::exchange(sends, receives);
  }
  void barrier() override {
    if (!silent_ || !in_step) Forwarding::barrier();
  }
  std::vector<std::vector<lab::Buffer>> view(std::span<const lab::Buffer> mine) override {
    if (silent_ && in_step) {
      std::vector<std::vector<lab::Buffer>> own(static_cast<size_t>(size()));
      own[static_cast<size_t>(rank())].assign(mine.begin(), mine.end());
      return own;
    }
    auto seen = Forwarding::view(mine);
    if (!seen.empty()) count(mine.front().bytes());
    return seen;
  }

  bool in_step = false;
  int64_t collectives = 0, bytes = 0;

 private:
  void count(int64_t more) {
    ++collectives;
    bytes += more;
  }
  bool silent_;
};

// Lets the trainer do as many steps as the script says, and stops it when there are no more to do.
class Player final : public lab::Callback {
 public:
  explicit Player(Counted& counted) : counted_(counted) {}
  std::string name() const override { return "player"; }
  void fit_started(const lab::FitReport&) override { wait(); }
  lab::Signal step_finished(const lab::StepReport& report) override {
    loss_ += report.loss;
    const auto seconds = rounds_.advance();
    if (!seconds) return {};
    const auto each = [&](auto sum) {
      return static_cast<double>(sum) / static_cast<double>(rounds_.done());
    };
    rounds_.say(lab::text("seconds=", *seconds, " loss=", each(loss_),
                          " collectives=", each(counted_.collectives), " bytes=", each(counted_.bytes)));
    wait();
    return {};
  }

 private:
  void wait() {
    rounds_.wait();
    counted_.in_step = true;
    counted_.collectives = counted_.bytes = 0;
    loss_ = 0;
  }
  bench::Rounds rounds_;
  Counted& counted_;
  double loss_ = 0;
};

lab::ExitCode train(lab::Session& session, const std::vector<lab::Experiment>& experiments, bool silent) {
  const auto config =
      lab::load_run_config(session.comm(), session.line.config, session.line.sets, experiments);
  lab::start_computing(session, config.trainer, config.trainer.canonical() ? 1 : config.trainer.threads);
  lab::seed_torch(static_cast<uint64_t>(config.trainer.seed), lab::Purpose::init);
  lab::TrainPlan plan = config.experiment.train();
  const auto sources = lab::open_sources(session.comm(), {plan.train.dataset});
  const auto checkpoints = lab::no_checkpoints();
  Counted counted(session.comm(), silent);
  lab::TrainerContext context{counted, session.log,     sources[0],
                              nullptr, *checkpoints,    {std::make_shared<Player>(counted)},
                              nullptr, lab::stop_signal};
  lab::Trainer(std::move(plan), config.trainer, std::move(context)).fit();
  return lab::ExitCode::done;
}

}  // namespace

int main(int argc, char** argv) {
  const bool silent = argc > 1 && std::string(argv[1]) == "silent";
  if (silent) {
    std::swap(argv[0], argv[1]);
    ++argv;
    --argc;
  }
  const std::vector<lab::Experiment> experiments = {lab::experiment("step", plan, nothing)};
  return lab::run_session(lab::Program::train, argc, argv, experiments,
                          [&](lab::Session& session) { return train(session, experiments, silent); });
}
