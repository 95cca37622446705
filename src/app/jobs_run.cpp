#include "app/jobs_run.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>

#include "app/jobs.h"
#include "lab/comm/agreement.h"
#include "lab/core/signals.h"

namespace lab {
namespace {

using Work = std::function<ExitCode(Session&)>;
using Clock = std::chrono::steady_clock;

// By their names runs are found again.
void require_different_names(const Session& all) {
  if (!all.line.resume && all.launch.launch_id.empty()) return;
  std::map<std::string, std::string> seen;
  for (const auto& config : all.line.configs) {
    const auto [other, is_new] = seen.emplace(std::filesystem::path(config).stem().string(), config);
    if (!is_new)
      throw UsageError(other->second, " and ", config, " have the same name, so that ",
                       all.line.resume ? "--resume" : "lab_run, which resumes runs,",
                       " can't tell their runs apart; rename one of them, or start them one after the other");
  }
}

// A failure is everyone's of this job, and of nobody else.
ExitCode guarded(Session& job, const Work& work) {
  try {
    job.group = job.world.communicator(job.line.backend, job.log);
    const ExitCode code = work(job);
    leave_job(job, nullptr);
    return code;
  } catch (const std::exception& e) {
    return say_failure(job, e).code;
  }
}

JobResult run_job(const Session& all, World& ranks, int number, const Work& work) {
  const auto begin = Clock::now();
  CommandLine line = all.line;
  line.config = line.configs[static_cast<size_t>(number)];
  const Log log(ranks.rank(), ranks.size(), job_labels(line.configs)[static_cast<size_t>(number)]);
  ranks.heartbeat().begin_job(number + 1, ranks.rank(), ranks.size());
  Session job{all.program, line,
              all.argv,    all.launch,
              ranks,       nullptr,
              log,         std::make_unique<Watchdog>(ranks.heartbeat(), log),
              all.cores,   ranks.communicator(Backend::mpi, log)};
  const ExitCode code = guarded(job, work);
  JobResult result = job.result;
  result.job = number;
  result.ranks = ranks.size();
  result.code = code;
  result.status = job.failure              ? JobStatus::failed
                  : code == ExitCode::done ? JobStatus::completed
                                           : JobStatus::stopped;
  if (job.failure) result.error = job.failure->message;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  job.watchdog.reset();
  ranks.heartbeat().begin_job(0, ranks.rank(), ranks.size());
  return result;
}

// What this rank has led to an end.
std::vector<JobResult> run_own_jobs(const Session& all, Counter& begun, const Work& work) {
  const int jobs = static_cast<int>(all.line.configs.size());
  const RankGroups groups = rank_groups(all.world.rank(), all.world.size(), jobs);
  World ranks = all.world.part(groups.mine);
  if (groups.groups == jobs) {  // also after a signal, which its ranks learn of at different times
    const JobResult result = run_job(all, ranks, groups.mine, work);
    return ranks.rank() == 0 ? std::vector{result} : std::vector<JobResult>();
  }
  std::vector<JobResult> results;
  while (stop_signal() == 0) {
    const int64_t job = begun.next();
    if (job >= jobs) break;
    results.push_back(run_job(all, ranks, static_cast<int>(job), work));
  }
  return results;
}

// As all ranks know them, for each job. Collective.
std::vector<JobResult> gathered(Session& all, const std::vector<JobResult>& own) {
  const int jobs = static_cast<int>(all.line.configs.size()), ranks = all.world.size();
  int64_t interrupted = stop_signal() == SIGINT;
  all.comm().all_reduce({&interrupted, 1, DType::i64}, ReduceOp::max);
  std::vector<JobResult> results(static_cast<size_t>(jobs));
  for (int job = 0; job < jobs; ++job)
    results[static_cast<size_t>(job)] = {.job = job,
                                         .ranks = ranks_of_job(job, ranks, jobs),
                                         .code = interrupted ? ExitCode::interrupted : ExitCode::try_again};
  std::string lines;
  for (const auto& result : own) lines += to_text(result) + "\n";
  for (int rank = 0; rank < ranks; ++rank) {
    std::istringstream theirs(broadcast_bytes(all.comm(), lines, rank));
    for (std::string line; std::getline(theirs, line);) {
      const JobResult result = job_result_from_text(line);
      results[static_cast<size_t>(result.job)] = result;
    }
  }
  return results;
}

void tell(const Session& all, const std::vector<JobResult>& results) {
  all.log.result(jobs_table(results, all.line.configs));
  for (const auto& result : results) {
    if (result.status != JobStatus::failed) continue;
    std::string error = result.error;
    std::ranges::replace(error, '\n', ' ');
    all.log.error("job ", result.job + 1, " (", all.line.configs[static_cast<size_t>(result.job)],
                  ") failed (", static_cast<int>(result.code), "): ", error);
  }
}

}  // namespace

ExitCode run_jobs(Session& all, const Work& work) {
  agree(all.comm(), [&] { require_different_names(all); });
  all.watchdog.reset();  // each job has its own
  Counter begun(all.world);
  const std::vector<JobResult> own = run_own_jobs(all, begun, work);
  all.watchdog = std::make_unique<Watchdog>(all.world.heartbeat(), all.log,
                                            WatchdogOptions{.limits = {.least = 0}});  // some wait for long
  const std::vector<JobResult> results = gathered(all, own);
  if (all.world.rank() == 0) tell(all, results);
  return exit_code_of(results);
}

}  // namespace lab
