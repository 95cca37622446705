#include "app/run_records.h"

#include <signal.h>
#include <torch/version.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "app/recorder.h"
#include "lab/app/progress.h"
#include "lab/comm/agreement.h"
#include "lab/core/process.h"
#include "lab/core/version.h"

namespace lab {
namespace {

constexpr int64_t most_starts_without_progress = 3;

// Shows how the training goes while it does.
class TrainingDrawer final : public Callback {
 public:
  explicit TrainingDrawer(std::shared_ptr<TrainingPictures> pictures) : pictures_(std::move(pictures)) {}
  std::string name() const override { return "training drawer"; }
  Signal epoch_finished(const EpochReport&) override {
    pictures_->draw_now_and_then();
    return {};
  }

 private:
  std::shared_ptr<TrainingPictures> pictures_;
};

std::string counted(int64_t count, const char* what) { return text(count, " ", what, count == 1 ? "" : "s"); }

// What run.json says of this process.
void describe_process(RunRecord& record, const Session& session, const RunConfig& config) {
  const std::string toml = to_toml(config.resolved, false);
  record.status = "running";
  record.exit_code.reset();
  record.error.clear();
  record.ended.clear();
  record.launch_id = session.launch.launch_id;
  record.config_hash = checksum(std::as_bytes(std::span(toml)));
  record.argv = session.argv;
  record.host = host_name();
  record.pid = getpid();
  record.world_size = session.comm().size();
  record.slurm = session.launch.slurm;
  record.versions = {{"lab", std::string(version)}, {"torch", TORCH_VERSION}};
  record.instruction_set = instruction_set();
}

void refuse_changed_config(const RunConfig& config, const TrainPlan& plan, const CommandLine& line,
                           const RunFolder& folder, const Log& log) {
  const ConfigChanges changes =
      config_changes(config.resolved, folder.file("config.toml"), plan.schedule.needs_end);
  if (!changes.others.empty() && !line.allow_config_change)
    throw ConfigError("the config is not the one that ", folder.path(), " was trained with:\n  ",
                      join(changes.others, "\n  "),
                      "\nbring the old values back, or go on all the same with --allow-config-change");
  for (const auto* list : {&changes.others, &changes.harmless})
    for (const auto& change : *list) log.info("config changed: ", change);
}

}  // namespace

RunRecords::RunRecords(const Session& session, const RunConfig& config, const TrainPlan& plan,
                       const ClearmlAccess& clearml, int64_t samples)
    : log_(session.log),
      watchdog_(*session.watchdog),
      measures_(session.line.measures()),
      painter_(session.log) {
  saves_ = config.trainer.enable_checkpointing && !measures_;
  if (session.comm().rank() != 0) return;
  tracking_ = std::make_unique<Tracking>(session, config, clearml);
  const RunNames names{config.experiment_name, config.stem};
  std::optional<ResumeTarget> target;
  if (session.line.resume && !measures_)
    target = find_run(session.line, session.launch, names, config.trainer.default_root_dir);
  const auto earlier = [&] {
    return measures_ ? std::nullopt : earlier_run(session, config, clearml, plan, samples);
  };
  if (target) {
    go_on(session, config, plan, std::move(*target));
    if (!saved_) begin_with(earlier());
  } else {
    if (session.line.resume && !measures_)
      log_.info("--resume: no unfinished run of this config in ", config.trainer.default_root_dir,
                ": a new one begins");
    create(session, config, names, earlier());
  }
  open_records(session, config, plan);
}

RunRecords::~RunRecords() { watchdog_.before_end({}); }

void RunRecords::create(const Session& session, const RunConfig& config, const RunNames& names,
                        const std::optional<EarlierRun>& earlier) {
  const Tracking::Name name = tracking_->name_new_run(names);
  record_.name = name.name;
  record_.task_id = name.task_id;
  record_.parent = config.checkpoint.checkpoint_task_id;
  record_.started = utc_text(std::chrono::system_clock::now());
  describe_process(record_, session, config);
  const std::string id = name.task_id.empty() ? "" : "-" + name.task_id;
  folder_ = RunFolder::create(config.trainer.default_root_dir, name.name + id);
  lock_.emplace(folder_->path(), false);
  begin_with(earlier);
}

void RunRecords::begin_with(const std::optional<EarlierRun>& earlier) {
  if (!earlier) return;
  saved_ = earlier->begin_in(folder_->checkpoints());
  record_.best = saved_->state.best;
  begins_ = true;
  if (saves_) return;
  std::filesystem::remove(saved_->file.path());  // it is in memory
  std::filesystem::remove(folder_->checkpoints() + "/best.safetensors");
}

// Everything that may be refused comes before anything is written.
void RunRecords::go_on(const Session& session, const RunConfig& config, const TrainPlan& plan,
                       ResumeTarget target) {
  const RunFolder& folder = target.folder;
  record_ = folder.read_run_json();
  lock_.emplace(folder.path(), is_of(record_, session.launch));
  if (record_.status == "aborted" && is_of(record_, session.launch))
    throw GiveUp(folder.path(), " was aborted on the ClearML server; go on with --resume=", folder.path(),
                 " by hand if that is wanted");
  refuse_changed_config(config, plan, session.line, folder, log_);
  if (target.checkpoint.empty())
    saved_ = newest_checkpoint(folder.checkpoints(), log_);
  else
    saved_ = read_checkpoint(target.checkpoint);
  begins_ =
      saved_ && saved_->state.records.empty();  // what an earlier run gave it, and nothing of its own yet
  const int64_t step = saved_ ? saved_->state.step : 0;
  record_.starts += 1;
  record_.starts_from_step = record_.started_from_step == step ? record_.starts_from_step + 1 : 1;
  record_.started_from_step = step;
  if (session.line.resume_path.empty() && record_.starts_from_step > most_starts_without_progress)
    throw GiveUp("the last ", most_starts_without_progress, " starts of ", folder.path(),
                 " made no progress from step ", step,
                 "; see its log.txt for what ended them, mend it, and go "
                 "on with --resume=",
                 folder.path());
  if (saved_) record_.best = saved_->state.best;
  describe_process(record_, session, config);
  folder_ = folder;
  if (saved_) {
    log_.info("going on with ", folder.path(), " from step ", step, " (epoch ", saved_->state.epoch + 1, ")");
    return;
  }
  for (const auto& file : std::filesystem::directory_iterator(folder.path()))  // points that are made again
    if (file.path().filename().string().starts_with("events.out.tfevents."))
      std::filesystem::remove(file.path());
  log_.info("going on with ", folder.path(), " from the start: it has no checkpoint yet");
}

void RunRecords::open_records(const Session& session, const RunConfig& config, const TrainPlan& plan) {
  // First what a bare --resume would look at: a death from here on loses nothing.
  if (saves_) {
    CheckpointPlan checkpoints{folder_->checkpoints(),
                               plan.monitor,
                               plan.monitor_mode,
                               config.trainer.checkpoint_keep,
                               config.trainer.on_checkpoint_error == "stop",
                               config.trainer.checkpoint_top_k,
                               config.trainer.checkpoint_filename};
    checkpoints.records = [this] { return tracker_.records_of_each(); };
    checkpoints.sync_records = [this] { tracker_.sync(); };
    checkpoints.saved = [file = session.launch.progress_file, path = folder(), log = log_,
                         this](const RunState& state) {
      tracking_->saved(state);
      if (!file.empty()) try {
          write_file_atomically(file, text(path, "\n", state.step, "\n"));
        } catch (const IoError& e) {
          log.warn(e.what());
        }
    };
    checkpoints_ = checkpoint_folder(std::move(checkpoints), resume(), log_);
  }
  write_file_atomically(folder_->file("config.toml"), to_toml(config.resolved, false));
  folder_->write_run_json(record_);
  const auto kept = [&](size_t tracker) {
    return saved_ && tracker < saved_->state.records.size() ? saved_->state.records[tracker] : int64_t{0};
  };
  tracker_.add(csv_tracker(folder_->file("metrics.csv"), log_, kept(0)));
  tracker_.add(tensorboard_tracker(folder_->path(), log_, kept(1)));
  tracker_.add(picture_tracker(folder_->file("figures"), log_));
  tracker_.add(tracking_->open(*folder_, RunNames{config.experiment_name, config.stem}, record_.name));
  watchdog_.before_end([this](const std::string& why) { lost(why); });
  recorders_.push_back(
      make_recorder(log_, config.trainer, *folder_, record_, tracker_, *checkpoints_, painter_));
  pictures_ = std::make_shared<TrainingPictures>(folder_->path(), record_.name, painter_, log_);
  recorders_.push_back(std::make_shared<TrainingDrawer>(pictures_));
}

std::string RunRecords::folder() const {
  return folder_ ? std::filesystem::absolute(folder_->path()).string() : "";
}

void RunRecords::measured(MetricStage stage, const Measured& measured, const Trained& weights) {
  if (folder_) record_measured(log_, stage, measured, weights, tracker_, painter_);
}

ExitCode RunRecords::ended(const FitResult& result) {
  const bool interrupted = result.signal == SIGINT;
  const bool saved = saves_ && result.saved;
  const ExitCode code = result.signal == 0 ? ExitCode::done
                        : !saved           ? static_cast<ExitCode>(128 + result.signal)
                        : interrupted      ? ExitCode::interrupted
                                           : ExitCode::try_again;
  if (!folder_) return code;
  record_.epochs = result.epochs;
  record_.steps = result.steps;
  try {
    close(result.signal == 0     ? "completed"
          : tracking_->aborted() ? "aborted"
          : interrupted          ? "interrupted"
                                 : "stopped",
          code, "");
  } catch (const IoError& e) {  // all is done and saved
    log_.warn(e.what());
  }
  const std::string done = measures_
                               ? "nothing was trained"
                               : text(counted(result.epochs, "epoch"), ", ", counted(result.steps, "step"));
  if (measures_)
    log_.info(result.signal == 0 ? "measured; " : "stopped by a signal before all was measured; ", done);
  else if (result.signal != 0)
    log_.info(interrupted ? "interrupted" : "stopped", " by a signal after ", done,
              saved    ? ", saved; go on with --resume"
              : saves_ ? "; it could not be saved"
                       : "; not saved, as enable_checkpointing is false");
  else
    log_.info(result.stopped_by, result.stopped_by.empty() ? "" : "; ", "finished after ", done);
  if (result.device_memory > 0)
    log_.info("tensors took at most ", (result.device_memory + (1 << 20) - 1) >> 20, " MiB of a GPU");
  const auto& best = record_.best;
  log_.result(
      text(folder_->path(),
           best ? text("  best ", best->monitor, " ", shown(best->value), " in epoch ", best->epoch + 1) : "",
           "\n"));
  tracking_->end(result.signal == 0 ? "completed" : "stopped", record_.status, done);
  learn_task();
  return code;
}

void RunRecords::failed(const Failure& failure) noexcept {
  try {
    if (!folder_) return;
    try {
      close("failed", failure.code, failure.message);
    } catch (const IoError& e) {
      log_.error(e.what());
    }
    tracking_->end("failed", "the run failed", failure.message);
    learn_task();
  } catch (const std::exception& e) {
    log_.error(e.what());
  }
}

void RunRecords::close(const std::string& status, ExitCode code, const std::string& error) {
  record_.status = status;
  record_.exit_code = static_cast<int>(code);
  record_.error = error;
  record_.ended = utc_text(std::chrono::system_clock::now());
  tracker_.flush();
  folder_->write_run_json(record_);
  if (pictures_) pictures_->draw();
}

// A rank has died or hangs: the job is ended within a second, and this is the rank that can say so. By a
// thread of the watchdog, beside whatever else goes on: so from the file, not from record_.
void RunRecords::lost(const std::string& why) const {
  try {
    RunRecord record = folder_->read_run_json();
    record.status = "failed";
    record.error = why;
    record.ended = utc_text(std::chrono::system_clock::now());
    folder_->write_run_json(record);
  } catch (const Error&) {  // --resume and lab_sync will see that nobody writes it any more
  }
  tracking_->end("failed", "a rank was lost", why, std::chrono::milliseconds(800));
}

// A run that began as pending may have its task by now.
void RunRecords::learn_task() {
  const auto task = tracking_->task();
  if (!task || task->id == record_.task_id) return;
  record_.name = task->name;
  record_.task_id = task->id;
  try {
    folder_->write_run_json(record_);
  } catch (const IoError& e) {
    log_.warn(e.what());
  }
}

std::string require_shared_folder(Communicator& comm, const std::string& folder_of_rank_0) {
  constexpr int tries = 25;  // network file systems may take seconds to show what is new
  const std::string folder = broadcast_bytes(comm, folder_of_rank_0);
  agree(comm, [&] {
    for (int i = 0; i < tries; ++i) {
      if (access((folder + "/run.json").c_str(), F_OK) == 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    throw IoError("this rank, on ", host_name(), ", does not see the run folder ", folder,
                  "; all nodes must share it: choose such a place with trainer.init.default_root_dir");
  });
  return folder;
}

}  // namespace lab
