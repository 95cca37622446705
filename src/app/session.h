#pragma once
// What lab_train and lab_infer have in common: from the command line to a group of ranks that agrees, and
// back out with the right exit code.

#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "app/command_line.h"
#include "app/launch.h"
#include "app/run_config.h"
#include "lab/comm/world.h"
#include "lab/core/error.h"
#include "lab/core/log.h"
#include "lab/core/watchdog.h"
#include "lab/data/source.h"
#include "lab/device/device.h"

namespace lab {

// A program under way on this rank.
struct Session {
  Program program;
  CommandLine line;
  std::vector<std::string> argv;
  Launch launch;
  World& world;
  std::unique_ptr<Communicator> group;  // of all ranks; another one once start_computing() was called
  Log log;
  Watchdog& watchdog;
  bool failure_said = false;
  Communicator& comm() const { return *group; }
};

// Starts the process, parses the command line, answers --help and the like, joins the world, and runs `work`.
// Returns the exit code, `work`'s or an error's. An error that all ranks know of is said by rank 0 and all
// leave; any other is said by the rank that has it, which ends the job.
int run_session(Program program, int argc, char** argv, const std::vector<Experiment>& experiments,
                const std::function<ExitCode(Session&)>& work);

// What an exception is to the user: an exit code and a message without a stack trace.
struct Failure {
  ExitCode code = ExitCode::bug;
  std::string message;
};
Failure failure_of(const std::exception& error);

// Says it in the log, once: what all ranks know of is said by rank 0, anything else by the first rank of a
// node that has an error of its own.
void say_failure(Session& session, const std::exception& error);

// The layouts of these files, read by a helper on rank 0; then this rank's own handle for each dataset that
// is not empty. Every rank must call; AgreedError when anything about them is wrong.
std::vector<std::shared_ptr<const Source>> open_sources(Communicator& comm,
                                                        const std::vector<Dataset>& datasets);

// What the config says of the ranks that were started. Throws ConfigError where there are others.
void require_ranks(const World& world, const TrainerOptions& options);

// Picks the device and the number of threads, and says on what the run goes. From now on the session's group
// reaches that device's memory. Every rank must call, before anything refers to the group.
Device start_computing(Session& session, const TrainerOptions& options, int64_t threads);

}  // namespace lab
