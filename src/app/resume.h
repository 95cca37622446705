#pragma once
// Which run --resume goes on with, and whether it may under this config.

#include <optional>
#include <string>
#include <vector>

#include "app/command_line.h"
#include "app/launch.h"
#include "app/run_config.h"
#include "lab/app/run_folder.h"
#include "lab/core/log.h"

namespace lab {

struct ResumeTarget {
  RunFolder folder;
  std::string checkpoint;  // a file that was asked for; empty: the newest that is whole
};

// The run that the command line means, among those of the config's name under `root`. The newest that the
// same lab_run began goes before all others, even when it is completed: who starts it again wants no other.
// Else PATH, or the newest unfinished one: of the same Slurm job within one, otherwise of those that nobody
// is writing. nullopt when there is none. Throws UsageError (with the list) when two are equally new,
// InputNotFound for a PATH that is no run.
std::optional<ResumeTarget> find_run(const CommandLine& line, const Launch& launch, const RunNames& names,
                                     const std::string& root);

// The run whose weights --validate-only and --test measure under --resume: PATH, or the newest of the
// config's name, whether it is finished or not; nullopt where there is none. Throws InputNotFound.
std::optional<ResumeTarget> find_run_to_measure(const CommandLine& line, const Launch& launch,
                                                const RunNames& names, const std::string& root);

// Whether an earlier process of the run belonged to this start's lab_run or Slurm job.
bool is_of(const RunRecord& record, const Launch& launch);

// How the config of a run differs from what it was, a line each: "config.batch_size: 128, was 64".
struct ConfigChanges {
  std::vector<std::string> harmless;  // where, how long and how often: not what is computed
  std::vector<std::string> others;
};
// end_matters: the schedule depends on the number of steps, so how long is not harmless.
ConfigChanges config_changes(const Resolved& now, const std::string& old_config_file, bool end_matters);

}  // namespace lab
