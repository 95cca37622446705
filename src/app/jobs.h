#pragma once
// Several configs in one start: who trains which, what became of each, and what the start ends with. Pure
// functions.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lab/core/error.h"

namespace lab {

// Ranks are cut into groups of neighbours, as equal as they can be; the first ones have one more.
struct RankGroups {
  int groups = 1;  // one for each job, but no more than there are ranks
  int mine = 0;    // that of the rank in question
};
RankGroups rank_groups(int rank, int ranks, int jobs);
// How many ranks will train this job (from 0).
int ranks_of_job(int job, int ranks, int jobs);

// What each job is called in the log: the config's file name without .toml, with the job's number (from 1)
// before it where others have the same.
std::vector<std::string> job_labels(std::span<const std::string> configs);

enum class JobStatus { not_started, completed, stopped, failed };

// What became of a job; known to the rank that led it.
struct JobResult {
  int job = 0;  // from 0
  int ranks = 0;
  JobStatus status = JobStatus::not_started;
  ExitCode code = ExitCode::try_again;
  std::string name = {};   // of the run; "" where there is none
  std::string error = {};  // what it failed with
  int64_t epochs = 0;
  std::optional<double> best = {}, last = {};  // of what is monitored; of the last epoch
  double seconds = 0;
};
std::string to_text(const JobResult& result);
JobResult job_result_from_text(const std::string& text);

// What all ranks exit with: the code of the first job that failed, else of the first that did not come to its
// end, else 0.
ExitCode exit_code_of(std::span<const JobResult> results);

// A line for each job, 80 columns at most. Without a name of its own a run has its config's.
std::string jobs_table(std::span<const JobResult> results, std::span<const std::string> configs);

}  // namespace lab
