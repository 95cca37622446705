#pragma once
// What follows when a start of the ranks has ended: the exit code, a restart, or the end of all tries.

#include <cstdint>
#include <optional>
#include <string>

namespace lab {

// What rank 0 leaves in the file that LAB_RUN_PROGRESS names, after each saved checkpoint.
struct Progress {
  std::string folder;  // of the run
  int64_t step = 0;    // optimizer steps that its newest checkpoint holds
};
// None: the text is no such report.
std::optional<Progress> parse_progress(const std::string& file_text);

// How a start ended.
struct StartEnd {
  int code = 0;                   // of the launcher; 128 + the signal that ended it
  int stop_signal = 0;            // that lab_run got during it; 0: none
  bool saved_since_stop = false;  // a checkpoint came after that signal
  bool progressed = false;        // the newest checkpoint holds more steps than before this start
};

struct Tries {
  std::optional<int> most_restarts;
  int restarts = 0;   // done
  int fruitless = 0;  // starts in a row, the last one among them, that did not progress
};

struct Verdict {
  enum class Action { finish, restart, give_up };
  Action action = Action::finish;
  int code = 0;  // of lab_run, where it ends
};

inline constexpr int most_fruitless_starts = 3;

Verdict judge(const StartEnd& end, const Tries& tries);

// Why a start ended, in words: "a rank was ended by signal 9 (Killed)".
std::string reason_for(int code);

}  // namespace lab
