#pragma once
// The processes of a job on this machine: found by the run id in their environment, asked, and ended.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lab {

// What /proc tells of a process that carries a run id.
struct JobProcess {
  pid_t pid = 0;
  std::string rank;            // its PMIX_RANK; "": a launcher
  bool survives_usr1 = false;  // it catches SIGUSR1, or ignores it
};

// Reads what /proc/PID/environ and /proc/PID/status hold. `rank` and `survives_usr1` of the text alone.
JobProcess job_process(pid_t pid, std::string_view environ_text, std::string_view status_text);
// The text has exactly this entry, NAME=VALUE.
bool has_entry(std::string_view environ_text, std::string_view entry);

// All living processes with LAB_RUN_ID=`run_id` that we may look into.
std::vector<JobProcess> processes_of(const std::string& run_id);

// SIGUSR1 would reach the ranks and end none of them: a process that has just begun does not catch signals
// yet, and would die of it. `at_least`: how many ranks there must be.
bool ready_for_usr1(const std::vector<JobProcess>& processes, int at_least);

// Waits until no process of the run is left; those that stay longer than `grace` are killed. Returns how many
// were.
int wait_until_gone(const std::string& run_id, std::chrono::milliseconds grace);

// Every process id in /proc.
std::vector<pid_t> all_processes();

}  // namespace lab
