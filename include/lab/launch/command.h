#pragma once
// Which command starts the ranks: mpirun or srun with their words, decided from what lab_run finds around it.

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lab/core/run_variables.h"
#include "lab/launch/request.h"

namespace lab {

// What decides beside the request. The caller looks; nothing here does.
struct Surroundings {
  std::string mpirun, srun, squeue;  // full paths; empty: not there
  std::string slurm_job;             // its id
  bool slurm = false;                // inside a Slurm allocation
  int slurm_tasks = 0;               // 0: the allocation does not say
  int slurm_nodes = 1;
  bool other_scheduler = false;  // an allocation that mpirun itself asks for nodes
  bool root = false;
  int cores = 1;  // of this machine, that we may use
};

struct LaunchCommand {
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> environment;  // to be added
  int ranks = 0;
  bool on_this_machine = false;  // all ranks run here
};

// `folder` is for the files that Open MPI makes. Throws UsageError when nothing says how many ranks,
// Unavailable when there is no launcher.
LaunchCommand launch_command(const LaunchRequest& request, const Surroundings& around,
                             const std::string& program, const std::string& folder);

// The program's words for a start after the first: with --resume, unless they have it.
std::vector<std::string> resuming(std::vector<std::string> for_program);

// The full path of a program: as it is where it holds a '/', else in the first of the folders that has it.
// None: not there, or not executable.
std::optional<std::string> find_program(const std::string& name, std::span<const std::string> folders);

// Cores that this process may run on, two hardware threads of a core counted once, as mpirun counts.
int usable_cores();

}  // namespace lab
