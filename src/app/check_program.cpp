#include "app/check_program.h"

#include <sys/statvfs.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/train/evaluation.h"
#include "lab/train/model_summary.h"
#include "lab/train/on_device.h"
#include "lab/train/seed.h"
#include "lab/train/step_plan.h"
#include "lab/train/trainer.h"

namespace lab {
namespace {

constexpr int64_t trial_samples = 2;  // of each set: enough for a BatchNorm1d

std::string mebibytes(double bytes) {
  return text(shortest(std::round(bytes / (1 << 20) * 10) / 10), " MiB");
}

// What is found out, and what is wrong, in the order in which it was looked at.
class Findings {
 public:
  explicit Findings(const Session& session) : session_(session) {}

  void told(const std::string& line) { report_ += line + "\n"; }
  void wrong(ExitCode code, const std::string& what) {
    if (mistakes_.empty()) code_ = code;
    for (size_t at = 0; at < what.size();) {  // a line for each
      const size_t end = std::min(what.find('\n', at), what.size());
      const size_t first = std::min(what.find_first_not_of(' ', at), end);
      const std::string line = what.substr(first, end - first);
      if (!line.ends_with("in the configuration:")) mistakes_.push_back(line);
      at = end + 1;
    }
  }
  // True: it went well.
  bool tried(const std::function<void()>& work) {
    try {
      work();
      return true;
    } catch (const std::exception& e) {
      const Failure failure = failure_of(e);
      wrong(failure.code, failure.message);
      return false;
    }
  }
  ExitCode say() const {
    session_.log.result(report_ +
                        (mistakes_.empty() ? "Nothing wrong was found."
                                           : text(mistakes_.size(),
                                                  mistakes_.size() == 1 ? " mistake:\n  " : " mistakes:\n  ",
                                                  join(mistakes_, "\n  "))) +
                        "\n");
    return mistakes_.empty() ? ExitCode::done : code_;
  }

 private:
  const Session& session_;
  std::string report_;
  std::vector<std::string> mistakes_;
  ExitCode code_ = ExitCode::done;
};

std::shared_ptr<const Source> opened(const Dataset& dataset, Findings& findings) {
  if (dataset.empty()) return nullptr;
  std::shared_ptr<const Source> source;
  findings.tried([&] {
    const auto alone = self_communicator();
    source = open_sources(*alone, {dataset}).front();
    if (source->size() == 0)
      throw DataError(source->path(), " has no samples; give it a file that has, or take more of it");
  });
  return source;
}

// The plan on its first samples, as training or as validation would compute them.
void try_out(const TrainPlan& plan, const DataPlan& data, const Source& source, const TrainerOptions& options,
             bool trains, Findings& findings) {
  const Upload here({});
  Batch batch;
  const bool made = findings.tried([&] {
    batch = here(make_batch(source, data.transforms,
                            {static_cast<uint64_t>(options.seed), false, options.dtype()},
                            {0, {0, std::min(trial_samples, source.size())}}));
  });
  if (!made) return;
  plan.model.module().train(trains);
  Parts output;
  if (!findings.tried([&] { output = plan.model.forward(batch); })) return;
  findings.tried([&] {
    const WeightedSum loss = plan.loss(output, batch);
    if (trains) loss.sum.backward();
  });
  for (const Metric& metric : plan.metrics)
    findings.tried([&] {
      const torch::NoGradGuard no_grad;
      metric.count(output, batch);
    });
  if (trains) return;
  for (const Figure& figure : plan.figures)
    findings.tried([&] {
      const torch::NoGradGuard no_grad;
      if (const auto numbers = figure.count(output, batch).numel(); numbers != figure.numbers)
        throw ConfigError("the experiment's figure ", quoted(figure.name), " counted ", numbers,
                          " numbers for a batch, but says ", figure.numbers, "; let both be the same");
    });
}

void tell_steps(const TrainPlan& plan, const TrainerOptions& options, const Source& train, int ranks,
                Findings& findings) {
  const int64_t samples =
      limited_samples(options.limit_train_batches, train.size(), plan.batch_size, "limit_train_batches");
  const int64_t steps = steps_per_epoch(samples, plan.batch_size, options.accumulate_grad_batches);
  const int64_t tail = samples % plan.batch_size;
  findings.told(text("An epoch: ", samples, " samples in ", steps, steps == 1 ? " step" : " steps",
                     ", batches of ", plan.batch_size, tail ? text(", the last of ", tail) : "", "; on ",
                     ranks,
                     ranks == 1 ? " rank"
                                : text(" ranks ", plan.batch_size / ranks, " to ",
                                       (plan.batch_size + ranks - 1) / ranks, " of each batch"),
                     options.max_epochs >= 0 ? text("; ", options.max_epochs, " epochs") : "",
                     options.max_steps >= 0 ? text("; ", options.max_steps, " steps at most") : "", "."));
}

// How many a run has at once at least: where all stay, those of the epochs that it is to have.
double kept_checkpoints(const TrainerOptions& options) {
  const int64_t saved = std::max<int64_t>(options.max_epochs, 1) / options.checkpoint_every_n_epochs;
  const auto stay = [&](int64_t limit) { return static_cast<double>(limit < 0 ? saved : limit); };
  return stay(options.checkpoint_keep) + stay(options.checkpoint_top_k) + 1;
}

// Parameters, gradients, optimizer state; what a checkpoint takes.
void tell_room(const TrainPlan& plan, const TrainerOptions& options, int ranks, Findings& findings) {
  double parameters = 0;
  for (const at::Tensor& parameter : plan.model.module().parameters())
    parameters += static_cast<double>(parameter.nbytes());
  const double state = parameters * static_cast<double>(state_names(plan.optimizer).size());
  findings.told(text("Memory, beside what layers keep for the backward: ", mebibytes(parameters + state),
                     " of parameters and optimizer state on a node, ", mebibytes(2 * parameters),
                     " of gradients on each of ", ranks, ranks == 1 ? " rank." : " ranks."));
  const double checkpoint = parameters + state, kept = kept_checkpoints(options);
  std::filesystem::path root = std::filesystem::absolute(options.default_root_dir);
  while (!std::filesystem::exists(root) && root.has_relative_path()) root = root.parent_path();
  struct statvfs disk {};
  if (!std::filesystem::is_directory(root) || statvfs(root.c_str(), &disk) != 0 ||
      access(root.c_str(), W_OK) != 0)
    return findings.wrong(ExitCode::io,
                          text("run folders can't be made in ", options.default_root_dir, ": ", root.string(),
                               " is no folder that can be written to; set trainer.init.default_root_dir"));
  const double room = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  findings.told(text("Disk: a checkpoint takes ", mebibytes(checkpoint), "; ", mebibytes(room),
                     " are free in ", root.string(), "."));
  if (options.enable_checkpointing && kept * checkpoint > room)
    findings.wrong(ExitCode::io, text("the checkpoints of a run take ", mebibytes(kept * checkpoint),
                                      ", but ", root.string(), " has ", mebibytes(room),
                                      "; make room, or set trainer.init.default_root_dir"));
}

// With --test: the set that it would measure on.
void check_test_data(const TrainPlan& plan, const TrainerOptions& options, Findings& findings) {
  if (plan.test_data.dataset.empty())
    return findings.wrong(ExitCode::bad_config,
                          "--test: the experiment has no test data; give its plan test_data");
  const auto source = opened(plan.test_data.dataset, findings);
  if (!source) return;
  for (const auto& mistake : mistakes_in_evaluation(plan, options, MetricStage::test, source.get()))
    findings.wrong(ExitCode::bad_config, mistake);
  try_out(plan, plan.test_data, *source, options, false, findings);
}

void check_plan(const RunConfig& config, int ranks, bool tests, Findings& findings) {
  TrainPlan plan;
  const TrainerOptions& options = config.trainer;
  const bool planned = findings.tried([&] {
    seed_torch(static_cast<uint64_t>(options.seed), Purpose::init);
    plan = config.experiment.train();
  });
  if (!planned) return;
  const auto train = opened(plan.train.dataset, findings);
  const auto validate = opened(plan.validate.dataset, findings);
  for (const auto& mistake : mistakes_in(plan, options, ranks, train.get(), validate.get()))
    findings.wrong(ExitCode::bad_config, mistake);
  if (!plan.model || !plan.loss || plan.batch_size < 1) return;
  for (const auto& line : model_summary(plan.model.module())) findings.told(line);
  findings.tried([&] { set_precision(plan.model, options); });
  if (train) try_out(plan, plan.train, *train, options, true, findings);
  if (validate) try_out(plan, plan.validate, *validate, options, false, findings);
  if (train) findings.tried([&] { tell_steps(plan, options, *train, ranks, findings); });
  if (tests) check_test_data(plan, options, findings);
  tell_room(plan, options, ranks, findings);
}

}  // namespace

ExitCode check_run(Session& session, const std::vector<Experiment>& experiments, int ranks) {
  int64_t code = 0;
  agree(session.comm(), [&] {
    if (session.comm().rank() != 0) return;
    Findings findings(session);
    RunConfig config;
    findings.tried([&] {
      Mistakes mistakes;
      config = read_run_config(session.line.config, session.line.sets, experiments, mistakes);
      mistakes.throw_if_any();
    });
    findings.tried([&] { require_ranks(ranks, config.trainer); });
    if (config.experiment.train) check_plan(config, ranks, session.line.test, findings);
    code = static_cast<int64_t>(findings.say());
  });
  session.comm().broadcast({&code, 1, DType::i64}, 0);
  return static_cast<ExitCode>(code);
}

}  // namespace lab
