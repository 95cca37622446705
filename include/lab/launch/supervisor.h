#pragma once
// Keeps a job of ranks going: starts them, passes signals on, starts them again, and leaves nothing behind.

#include <string>
#include <vector>

#include "lab/core/log.h"
#include "lab/launch/command.h"
#include "lab/launch/leftovers.h"

namespace lab {

struct Job {
  LaunchRequest request;
  Surroundings around;
  Places places;
  std::string program;                   // full path
  std::vector<std::string> environment;  // NAME=VALUE, that the launcher starts with
  std::string run_id;
};

// Runs the job to its end and returns lab_run's exit code. To be called once, by a process without other
// threads: it blocks signals, forks, and waits for any child. Throws UsageError, Unavailable or IoError
// before the first start.
int supervise(const Job& job, const Log& log);

}  // namespace lab
