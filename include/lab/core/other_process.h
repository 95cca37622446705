#pragma once
// What /proc tells of a process that is not our child.

#include <cstdint>
#include <optional>
#include <string>

namespace lab {

struct ProcessStat {
  char state = '?';     // as in /proc/PID/stat: R, S, D, T (stopped), t (under a debugger), Z ...
  int64_t born = 0;     // its start time, in ticks since the machine started
  int wait_status = 0;  // as waitpid gives it, for a zombie
};

// A file of /proc/PID; "" when the process is gone or may not be looked into.
std::string read_proc(int pid, const char* name);

// Nothing where there is no such process, or none that may be seen.
std::optional<ProcessStat> process_stat(int pid);

// Notices the end of a process: at once where the kernel gives out descriptors of processes, else whenever
// asked. To be made of processes that could be seen once, with the start time that they had: one that is not
// there any more has ended. born 0: it never could be seen, and never counts as gone.
class WatchedProcess {
 public:
  WatchedProcess(int pid, int64_t born);
  ~WatchedProcess();
  WatchedProcess(WatchedProcess&& other) noexcept;
  WatchedProcess& operator=(WatchedProcess&&) = delete;

  int fd() const { return fd_; }  // readable once the process is gone; -1: ask gone() from time to time
  bool visible() const { return visible_; }
  bool gone() const;
  std::optional<int> wait_status() const;  // how it ended, as long as that can be found out
  char state() const;                      // '?': unknown
  void kill() const;

 private:
  int pid_ = 0, fd_ = -1;
  int64_t born_ = 0;
  bool visible_ = false;
  bool ended_before_ = false;  // before this was made
};

}  // namespace lab
