#pragma once
// The command lines of lab_train and lab_infer: one table that parses, helps and refuses.

#include <string>
#include <vector>

#include "lab/comm/world.h"

namespace lab {

enum class Program { train, infer };

struct CommandLine {
  std::string config;
  std::vector<std::string> configs;    // all that were given, where those are several: jobs of one start
  std::vector<std::string> sets;       // KEY=VALUE
  std::vector<std::string> arguments;  // lab_infer: what is for the experiment
  Backend backend = Backend::automatic;
  std::vector<int> gpus;  // -g; empty: all that are visible
  bool resume = false;
  std::string resume_path;  // empty: the newest unfinished run
  bool allow_config_change = false;
  bool offline = false, print_config = false, debug = false;
  bool help = false, help_config = false, version = false;
  bool check_gradients = false;  // instead of a run
  bool check = false;            // likewise
  bool validate_only = false;    // likewise, at most one of these two
  bool test = false;
  std::string dev_run;  // how many batches, or which share of them; empty: an ordinary run

  // Weights are measured, nothing is trained.
  bool measures() const { return validate_only || test; }
};

// Throws UsageError: unknown option (with the nearest known), option of a later version, missing config, or
// what is not for several.
CommandLine parse_command_line(Program program, int argc, char** argv);
std::string help_text(Program program);
std::string program_name(Program program);  // "lab_train"

}  // namespace lab
