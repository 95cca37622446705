#pragma once
// mpirun or srun as our child, and the signals that reach us while it runs.

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "lab/launch/command.h"

namespace lab {

// A signal that came, and who sent it.
struct Received {
  int signal = 0;  // 0: none came in time
  pid_t sender = 0;
};

// Blocks the signals that ask us to stop, and SIGCHLD, for the rest of the process; wait() takes them one by
// one.
class Signals {
 public:
  Signals();
  // No `most`: as long as it takes.
  Received wait(std::optional<std::chrono::milliseconds> most) const;
};

// A launcher that runs. It has a session of its own, so that Ctrl-C in a terminal reaches us alone, no input,
// and is ended by the kernel (SIGTERM) if we die. The owner waits for its end. Throws IoError.
class Launcher {
 public:
  Launcher(const LaunchCommand& command, const std::vector<std::string>& environment);
  // Its exit code, or 128 + the signal that ended it, once it has ended.
  std::optional<int> ended();
  void signal(int signal) const;
  void signal_group(int signal) const;

 private:
  pid_t pid_ = 0;
  std::optional<int> code_;
};

}  // namespace lab
