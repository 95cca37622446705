#pragma once
// The log of one rank: lines with the time on stderr and, once a run folder is there, in its log.txt.

#include <memory>
#include <string>

#include "lab/core/text.h"

namespace lab {

// The local time, as a line of the log begins: "2026-01-31 12:34:56.789".
std::string time_stamp();

// A cheap handle; copies write to the same log. Safe to use from several threads. Rank 0 writes everything;
// the other ranks write only warnings and errors, with their rank named. Nothing here communicates.
class Log {
 public:
  Log();  // rank 0 of 1, to stderr
  Log(int rank, int size);
  static Log silent();  // for tests

  template <class... Parts>
  void info(const Parts&... parts) const {
    write(Level::info, text(parts...));
  }
  template <class... Parts>
  void warn(const Parts&... parts) const {
    write(Level::warning, text(parts...));
  }
  template <class... Parts>
  void error(const Parts&... parts) const {
    write(Level::error, text(parts...));
  }

  // From now on lines go to this file as well, beginning with those written so far. Throws IoError.
  void also_to(const std::string& path) const;

  // A status line that stays at the bottom of a terminal (a progress bar); "" takes it away. Ignored where
  // stderr is not a terminal. Never reaches the file.
  void status(const std::string& line) const;
  bool on_terminal() const;

 private:
  enum class Level { info, warning, error };
  void write(Level level, const std::string& message) const;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lab
