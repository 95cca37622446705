#pragma once
// Ends the job when a rank of this node has died or hangs, and says which, where, and what to do.

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "lab/core/heartbeat.h"
#include "lab/core/log.h"
#include "lab/core/trouble.h"

namespace lab {

struct WatchdogOptions {
  HangLimits limits;
  std::string next = "start it again with --resume to go on from the newest checkpoint";  // ends the line
  std::string limit_name = "trainer.init.hang_seconds";  // how a user calls limits.least
  std::chrono::milliseconds tick{1000};   // between two looks for hangs; deaths are noticed at once
  std::chrono::milliseconds turn{20};     // how long a rank waits for each lower one to speak
  std::chrono::milliseconds io{2000};     // the longest that writing a report or a log line may take
  std::chrono::milliseconds grace{1000};  // for the launcher to end the others, before they do it themselves
};

// A thread that watches the node's other ranks, and its own; each rank has one, made after all ranks have
// their heartbeat. Where ranks have several jobs, hangs are looked for among those of its own job. Where a
// system does not let it see other processes, or have a thread, it sees less and the run goes on: nothing
// here throws.
//
// A rank has died when its process is gone without leave_in_order(): one rank of the node says so in one
// line, and after `grace` the others end with 128 + the signal that ended it, the code of its abort, or 70.
// It hangs when it stands still for longer than the limits allow: one rank writes all places to the report
// file and one line to the log, ends the culprits by SIGKILL, and after `grace` all end with 137 (70 where a
// rank sees the culprit gone before it has judged itself, on a kernel that does not tell how). Time in which
// this thread did not run (all of the job suspended) counts for no rank.
class Watchdog {
 public:
  // The heartbeat must outlive it.
  Watchdog(Heartbeat& heartbeat, Log log, WatchdogOptions options = {});
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From any thread. The report is the file for all places; "" (as at first): they go to the log. `more`: a
  // line that goes behind them.
  void limit(const HangLimits& limits);
  void report_to(const std::string& path, const std::string& more = "");
  // What else this rank does when the job is about to be ended, told why; it has `grace` for it. Replacing it
  // waits for one that is under way.
  void before_end(std::function<void(const std::string& why)> act);

 private:
  struct Watch;
  std::unique_ptr<Watch> watch_;
  std::thread thread_;
};

}  // namespace lab
