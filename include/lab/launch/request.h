#pragma once
// What a user asks lab_run for: its command line, from one table that parses and helps.

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lab {

struct LaunchRequest {
  int ranks = 0;                          // 0: as many as the Slurm allocation has tasks
  std::optional<int> restarts;            // none: no limit but that of starts without progress
  std::vector<std::string> for_launcher;  // further words for mpirun or srun
  std::string program;                    // as the user wrote it
  std::vector<std::string> for_program;   // everything after it
  bool help = false, version = false;
};

// The words after the program's own name. Throws UsageError.
LaunchRequest parse_launch_request(std::span<const std::string> words);
std::string launch_help();

}  // namespace lab
