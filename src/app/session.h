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
#include "app/jobs.h"
#include "app/launch.h"
#include "app/run_config.h"
#include "lab/comm/world.h"
#include "lab/core/error.h"
#include "lab/core/log.h"
#include "lab/core/watchdog.h"
#include "lab/data/source.h"
#include "lab/device/device.h"

namespace lab {

// What an exception is to the user: an exit code and a message without a stack trace.
struct Failure {
  ExitCode code = ExitCode::bug;
  std::string message;
};
Failure failure_of(const std::exception& error);

// A program under way on this rank, or one job of several.
struct Session {
  Program program;
  CommandLine line;
  std::vector<std::string> argv;
  Launch launch;
  World& world;                         // of several jobs: the ranks of this one
  std::unique_ptr<Communicator> group;  // of all ranks; another one once start_computing() was called
  Log log;
  std::unique_ptr<Watchdog> watchdog;
  int cores = 1;  // this rank's share of those that it may run on
  // Of a job among several: for all its ranks to hear what ended it, beside `group`, which may be broken.
  std::unique_ptr<Communicator> parting = {};
  JobResult result = {};  // of the run, as far as rank 0 knows
  std::optional<Failure> failure = {};
  bool looked_into = false;  // by --debug
  Communicator& comm() const { return *group; }
};

// Starts the process, parses the command line, answers --help and the like, joins the world, and runs `work`.
// Returns the exit code, `work`'s or an error's. An error that all ranks know of is said by rank 0 and all
// leave; any other is said by the rank that has it, which ends the job.
int run_session(Program program, int argc, char** argv, const std::vector<Experiment>& experiments,
                const std::function<ExitCode(Session&)>& work);

// What ended the run, said in the log once: what all ranks know of is said by rank 0, anything else by the
// first rank of a node that has an error of its own. In a job among several all ranks get to know it here:
// each calls it with whatever it caught.
const Failure& say_failure(Session& session, const std::exception& error);

// With --debug: what is known of an error is said in the log of the rank that has it, with the stacks of the
// newest throws, and a debugger is waited for; once. Else nothing.
void look_into(Session& session, const std::exception& error, const std::string& details);

// The end of a job among several on this rank, with an error or without one: who waits for this rank in the
// job's group does so no longer. Every rank must call, once; AgreedError where one of them has an error.
void leave_job(Session& session, const std::exception* error);

// `work` for each config in its turn, all ranks together, whatever is wrong with those before it. The code of
// the first that something is wrong with.
ExitCode for_each_config(Session& session, const std::function<ExitCode()>& work);

// The layouts of these files, read by a helper on rank 0; then this rank's own handle for each dataset that
// is not empty. Every rank must call; AgreedError when anything about them is wrong.
std::vector<std::shared_ptr<const Source>> open_sources(Communicator& comm,
                                                        const std::vector<Dataset>& datasets);

// How long a rank may stand still; with --debug for ever.
void limit_hangs(Session& session, double seconds);

// What the config says of the ranks that were started. Throws ConfigError where there are others.
void require_ranks(int ranks, const TrainerOptions& options);

// Picks the device and the number of threads, and says on what the run goes. From now on the session's group
// reaches that device's memory. Every rank must call, before anything refers to the group.
Device start_computing(Session& session, const TrainerOptions& options, int64_t threads);

}  // namespace lab
