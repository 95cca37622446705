#pragma once
// The log of one rank: lines with the time on stderr and, once a run folder is there, in its log.txt.

#include <functional>
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
  // job: what lines and results on stderr and stdout are marked with, where those of several jobs meet there.
  // Then there is no status line.
  Log(int rank, int size, const std::string& job = "");
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

  // A result: to stdout as it is, and like a line to wherever those go but stderr.
  void result(const std::string& text) const;

  // Gets each line (level "info", "warning" or "error"), in the order of the log. What it says to the log
  // itself does not come back to it.
  using Sink = std::function<void(const std::string& level, const std::string& line)>;
  // From now on lines go to this file as well, and to the sink, beginning with those written so far. Throws
  // IoError.
  void also_to(const std::string& path, Sink sink = {}) const;
  void end_sink() const;
  // While it lives, what this thread says does not go to the sink: for who is called by one, and holds what
  // it would wait for.
  class Aside {
   public:
    Aside();
    ~Aside();
    Aside(const Aside&) = delete;
    Aside& operator=(const Aside&) = delete;

   private:
    bool before_;
  };

  // A status line that stays at the bottom of a terminal (a progress bar); "" takes it away. Ignored where
  // stderr is not a terminal. Never reaches the file.
  void status(const std::string& line) const;
  bool on_terminal() const;

 private:
  enum class Level { info, warning, error };
  static const char* name_of(Level level);
  void write(Level level, const std::string& message) const;
  void keep(Level level, const std::string& line) const;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lab
