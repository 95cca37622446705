#include "app/resume.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "app/run_lock.h"
#include "lab/config/document.h"
#include "lab/core/error.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

struct Candidate {
  RunFolder folder;
  RunRecord record;
};

ResumeTarget named_run(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return {RunFolder::open(path), ""};
  if (!fs::exists(path, ignored))
    throw InputNotFound("--resume=", path, ": there is no such run folder or checkpoint; check the path");
  const fs::path folder = fs::canonical(path).parent_path().parent_path();
  return {RunFolder::open(folder.string()), fs::canonical(path).string()};
}

std::vector<Candidate> runs_of(const RunNames& names, const std::string& root) {
  std::vector<Candidate> runs;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root, ignored)) try {
      if (!fs::exists(entry.path() / "run.json", ignored)) continue;
      RunFolder folder = RunFolder::open(entry.path().string());
      RunRecord record = folder.read_run_json();
      if (is_version_of(record.name, names)) runs.push_back({std::move(folder), std::move(record)});
    } catch (const Error&) {
      continue;  // not a run that anyone could go on with
    }
  std::ranges::stable_sort(runs, std::greater<>(), [](const Candidate& run) { return run.record.started; });
  return runs;
}

bool same_job(const RunRecord& record, const Launch& launch) {
  for (const char* name : {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"}) {
    const auto theirs = record.slurm.find(name), ours = launch.slurm.find(name);
    if ((theirs == record.slurm.end()) != (ours == launch.slurm.end())) return false;
    if (ours != launch.slurm.end() && theirs->second != ours->second) return false;
  }
  return true;
}

}  // namespace

std::optional<ResumeTarget> find_run(const CommandLine& line, const Launch& launch, const RunNames& names,
                                     const std::string& root) {
  auto runs = runs_of(names, root);
  const auto newest = [&](const auto& fits) -> std::optional<ResumeTarget> {
    const auto found = std::ranges::find_if(runs, fits);
    return found == runs.end() ? std::nullopt : std::optional(ResumeTarget{found->folder, ""});
  };
  if (!launch.launch_id.empty())
    if (auto own = newest([&](const Candidate& run) { return run.record.launch_id == launch.launch_id; }))
      return own;
  const auto restarts = launch.slurm.find("SLURM_RESTART_COUNT");
  const bool queued_again = restarts != launch.slurm.end() && restarts->second != "0";
  if (!line.resume_path.empty()) {
    const ResumeTarget named = named_run(line.resume_path);
    const bool go_on = queued_again && same_job(named.folder.read_run_json(), launch);
    return go_on ? ResumeTarget{named.folder, ""} : named;  // PATH was for the job's first start
  }
  if (launch.own_run_only) return std::nullopt;
  const auto completed = [](const Candidate& run) { return run.record.status == "completed"; };
  if (!launch.slurm
           .empty())  // a job may be queued again when its run is just done: then nothing is left to do
    return newest([&](const Candidate& run) {
      return same_job(run.record, launch) && (queued_again || !completed(run));
    });
  std::erase_if(runs, completed);
  std::erase_if(runs, [](const Candidate& run) { return RunLock::is_held(run.folder.path()); });
  if (runs.size() > 1 && runs[0].record.started == runs[1].record.started) {
    std::string list;
    for (const auto& run : runs)
      if (run.record.started == runs[0].record.started) list += text("\n  --resume=", run.folder.path());
    throw UsageError("several unfinished runs are equally new; say which:", list);
  }
  return newest([](const Candidate&) { return true; });
}

std::optional<ResumeTarget> find_run_to_measure(const CommandLine& line, const Launch& launch,
                                                const RunNames& names, const std::string& root) {
  if (!line.resume_path.empty()) return named_run(line.resume_path);
  if (launch.own_run_only) return std::nullopt;
  const auto runs = runs_of(names, root);
  if (runs.empty()) return std::nullopt;
  return ResumeTarget{runs.front().folder, ""};
}

namespace {

// Everything else decides what is computed.
bool is_harmless(const std::string& key) {
  constexpr std::array keys = {"max_epochs",
                               "max_steps",
                               "log_every_n_steps",
                               "threads",
                               "strategy",
                               "default_root_dir",
                               "enable_progress_bar",
                               "enable_checkpointing",
                               "checkpoint_every_n_steps",
                               "checkpoint_every_minutes",
                               "checkpoint_keep",
                               "checkpoint_every_n_epochs",
                               "checkpoint_top_k",
                               "checkpoint_filename",
                               "on_checkpoint_error",
                               "hang_seconds",
                               "min_epochs",
                               "min_steps",
                               "max_time",
                               "limit_test_batches",
                               "limit_predict_batches",
                               "devices",
                               "num_nodes",
                               "detect_anomaly",
                               "inference_mode",
                               "enable_model_summary"};
  for (const char* table :
       {"task.", "checkpoint.", "trainer.fit.", "trainer.predict."})  // what a run begins with is behind it
    if (key.starts_with(table)) return true;
  return std::ranges::any_of(keys, [&](const char* name) { return key == text("trainer.init.", name); });
}

}  // namespace

bool is_of(const RunRecord& record, const Launch& launch) {
  if (!launch.launch_id.empty() && launch.launch_id == record.launch_id) return true;
  return !launch.slurm.empty() && same_job(record, launch);
}

ConfigChanges config_changes(const Resolved& now, const std::string& old_config_file, bool end_matters) {
  const Table old = merge_config(read_config_files(old_config_file), {});
  ConfigChanges changes;
  for (const auto& [key, value] : now) {
    const Value* before = find(old, key);
    if (before && before->toml() == value.toml()) continue;
    const std::string line = text(key, ": ", value.brief(), ", was ", before ? before->brief() : "not there");
    const bool end = key == "trainer.init.max_epochs" || key == "trainer.init.max_steps";
    const bool harmless = !before || (is_harmless(key) && !(end && end_matters));
    (harmless ? changes.harmless : changes.others).push_back(line);
  }
  return changes;
}

}  // namespace lab
