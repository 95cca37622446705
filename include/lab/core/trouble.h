#pragma once
// Who keeps a job from going on: judged from the places of a node's ranks, and said in words. Pure functions.

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lab/core/heartbeat.h"

namespace lab {

// How long a rank may stand still. In seconds.
struct HangLimits {
  double least = 30;   // while training, at least this; 0: nothing is taken for a hang
  double steps = 50;   // while training, at least this many median steps; 0: `least` alone counts
  double other = 600;  // before the first step is finished, and in the other phases
  static HangLimits fixed(double seconds) { return {seconds, 0, std::max(seconds, HangLimits().other)}; }
};

// A rank as the watchdog sees it.
struct Place {
  Beat beat;
  double still = 0;    // seconds since it moved, as far as the watchdog itself was awake
  char process = '?';  // state of its process, as in /proc/PID/stat
};

double limit_of(Phase phase, const HangLimits& limits, double median_step);

enum class Hang {
  still,      // the culprits do not move, and wait for nobody
  behind,     // all wait; the culprits wait in an earlier collective
  apart,      // all wait, in collectives that differ
  together,   // all wait in the same collective
  elsewhere,  // all ranks here wait; what they wait for is on another node
};

struct Verdict {
  Hang hang = Hang::still;
  std::vector<size_t> culprits;  // indices of places
  double limit = 0;              // seconds
};

// Nothing: the job goes on, or may still. In data-parallel training a rank that hangs makes all others wait
// in a collective, so the culprits are those that do not wait, or wait somewhere else. Ranks of other nodes
// are not seen: unless `whole_job`, ranks that all wait are given the longest of the limits.
std::optional<Verdict> judge(std::span<const Place> places, bool whole_job, const HangLimits& limits,
                             double median_step);

// "was killed by signal 9 (SIGKILL)". wait_status: as of waitpid, nothing where it could not be found out.
std::string ending_of(const Beat& beat, std::optional<int> wait_status);
// What a job ends with because of that: 128 + the signal, the code of an abort, else 70.
int exit_code_after(const Beat& beat, std::optional<int> wait_status);
// "rank 1 on node7 is stopped by a signal (31 s): in step 12, ..."; no line break.
std::string hang_line(std::span<const Place> places, const Verdict& verdict, const std::string& host);
// A table of all places, for people. Ends with a line break.
std::string table_of(std::span<const Place> places, const std::string& host);

}  // namespace lab
