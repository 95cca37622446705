// lab_train: from a config to a run folder.

#include <torch/version.h>
#include <unistd.h>

#include <array>
#include <iostream>

#include "app/recorder.h"
#include "app/session.h"
#include "lab/app/programs.h"
#include "lab/comm/agreement.h"
#include "lab/core/process.h"
#include "lab/core/version.h"
#include "lab/train/safetensors.h"
#include "lab/train/seed.h"
#include "lab/train/trainer.h"

namespace lab {
namespace {

std::string host_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return host.data();
}

RunRecord new_record(const Session& session, const RunConfig& config, const std::string& name) {
  RunRecord record;
  const std::string toml = to_toml(config.resolved, false);
  record.name = name;
  record.config_hash = checksum(std::as_bytes(std::span(toml)));
  record.argv = session.argv;
  record.host = host_name();
  record.pid = getpid();
  record.world_size = session.comm.size();
  record.slurm = session.launch.slurm;
  record.versions = {{"lab", std::string(version)}, {"torch", TORCH_VERSION}};
  record.instruction_set = instruction_set();
  record.started = utc_text(std::chrono::system_clock::now());
  return record;
}

// All that one run writes: on rank 0 a folder, elsewhere nothing. The trainer does not see the difference.
class RunRecords {
 public:
  RunRecords(const Session& session, const RunConfig& config, const TrainPlan& plan) : log_(session.log) {
    if (session.comm.rank() != 0) return;
    const std::string name = task_name({config.experiment_name, config.stem}, "offline");
    folder_ = RunFolder::create(config.trainer.default_root_dir, name);
    record_ = new_record(session, config, name);
    folder_->write_run_json(record_);
    write_file_atomically(folder_->file("config.toml"), to_toml(config.resolved, false));
    log_.also_to(folder_->file("log.txt"));
    tracker_.add(csv_tracker(folder_->file("metrics.csv"), log_));
    tracker_.add(tensorboard_tracker(folder_->path(), log_));
    if (config.trainer.enable_checkpointing)
      checkpoints_ = checkpoint_folder(folder_->checkpoints(), plan.monitor, plan.monitor_mode);
    recorders_.push_back(make_recorder(log_, config.trainer, *folder_, record_, tracker_, *checkpoints_));
  }

  CheckpointSink& checkpoints() { return *checkpoints_; }
  const std::vector<std::shared_ptr<Callback>>& recorders() const { return recorders_; }

  void completed(const FitResult& result) {
    if (!folder_) return;
    record_.epochs = result.epochs;
    record_.steps = result.steps;
    close("completed", ExitCode::done, "");
    if (!result.stopped_by.empty()) log_.info(result.stopped_by);
    const auto& best = record_.best;
    log_.info("finished after ", result.epochs, result.epochs == 1 ? " epoch, " : " epochs, ", result.steps,
              result.steps == 1 ? " step" : " steps");
    std::cout << folder_->path()
              << (best ? text("  best ", best->monitor, " ", shortest(best->value), " in epoch ",
                              best->epoch + 1)
                       : "")
              << std::endl;
  }

  void failed(const Failure& failure) noexcept {
    try {
      if (folder_) close("failed", failure.code, failure.message);
    } catch (const std::exception& e) {
      log_.error(e.what());
    }
  }

 private:
  void close(const std::string& status, ExitCode code, const std::string& error) {
    record_.status = status;
    record_.exit_code = static_cast<int>(code);
    record_.error = error;
    record_.ended = utc_text(std::chrono::system_clock::now());
    tracker_.flush();
    folder_->write_run_json(record_);
  }

  Log log_;
  std::optional<RunFolder> folder_;
  RunRecord record_;
  Fanout tracker_;
  std::unique_ptr<CheckpointSink> checkpoints_ = no_checkpoints();
  std::vector<std::shared_ptr<Callback>> recorders_;
};

using Sources = std::vector<std::shared_ptr<const Source>>;

void fit(Session& session, const RunConfig& config, TrainPlan plan, const Sources& sources,
         RunRecords& records) {
  TrainerContext context{session.comm,
                         session.log,
                         sources[0],
                         sources[1] && sources[1]->size() > 0 ? sources[1] : nullptr,
                         records.checkpoints(),
                         records.recorders()};
  records.completed(Trainer(std::move(plan), config.trainer, std::move(context)).fit());
}

void refuse_what_needs_a_server(const RunConfig& config) {
  if (config.task.required)
    throw Unavailable(
        "task.required = true, but this version of lab does not talk to a ClearML server yet; take it out to "
        "record the run in its folder");
  if (!config.checkpoint.checkpoint_task_id.empty())
    throw Unavailable("checkpoint.checkpoint_task_id = ", quoted(config.checkpoint.checkpoint_task_id),
                      ", but this version of lab cannot fetch models of earlier tasks yet; take it out");
}

void train(Session& session, const std::vector<Experiment>& experiments) {
  const RunConfig config = load_run_config(session.comm, session.line.config, session.line.sets, experiments);
  start_computing(session, config.trainer, config.trainer.canonical() ? 1 : config.trainer.threads);
  agree(session.comm, [&] { refuse_what_needs_a_server(config); });
  if (!session.line.offline)
    session.log.info("no ClearML configured: the run is recorded in its folder only, as with --offline");
  TrainPlan plan;
  agree(session.comm, [&] {
    seed_torch(static_cast<uint64_t>(config.trainer.seed), Purpose::init);
    plan = config.experiment.train();
  });
  // Before there is a folder: a run that cannot begin leaves none.
  const Sources sources = open_sources(session.comm, {plan.train.dataset, plan.validate.dataset});
  std::unique_ptr<RunRecords> records;
  agree(session.comm, [&] { records = std::make_unique<RunRecords>(session, config, plan); });
  try {
    fit(session, config, std::move(plan), sources, *records);
  } catch (const std::exception& e) {
    records->failed(failure_of(e));
    throw;
  }
}

}  // namespace

int train_main(int argc, char** argv, const std::vector<Experiment>& experiments) {
  return run_session(Program::train, argc, argv, experiments,
                     [&](Session& session) { train(session, experiments); });
}

}  // namespace lab
