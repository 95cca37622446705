#pragma once
// The exceptions of the project and the exit codes they become. Below app/ nothing exits: it throws one of
// these.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "lab/core/text.h"

namespace lab {

// What a rank's process ends with. Part of the contract with schedulers and scripts.
enum class ExitCode : int {
  done = 0,
  usage = 64,         // the command line is wrong
  bad_data = 65,      // a data file or a checkpoint holds something that cannot be used
  no_input = 66,      // an input file is not there
  unavailable = 69,   // a required service or device is not there
  bug = 70,           // our mistake
  io = 74,            // reading or writing failed
  try_again = 75,     // stopped early and saved: start me again
  disagreement = 76,  // ranks disagreed
  bad_config = 78,    // the configuration is wrong
  give_up = 93,       // do not start me again
  interrupted = 130,  // interrupted by the user, and saved
};

// Base of all errors the user can do something about. `what()` holds the offending value, where it came from
// and the next thing to do; it may have several lines.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// One class per exit code, so that a throw reads as what it is: throw DataError("label ", 12, " in ", file,
// ...).
#define LAB_ERROR(Name, exit_code)                                                       \
  class Name : public Error {                                                            \
   public:                                                                               \
    template <class... Parts>                                                            \
    explicit Name(const Parts&... parts) : Error(ExitCode::exit_code, text(parts...)) {} \
  }
LAB_ERROR(UsageError, usage);
LAB_ERROR(DataError, bad_data);
LAB_ERROR(InputNotFound, no_input);
LAB_ERROR(Unavailable, unavailable);
LAB_ERROR(Bug, bug);
LAB_ERROR(IoError, io);
LAB_ERROR(Disagreement, disagreement);
LAB_ERROR(ConfigError, bad_config);
LAB_ERROR(GiveUp, give_up);
#undef LAB_ERROR

// The text of errno, for messages: "No such file or directory".
std::string system_error_text(int error_number);

}  // namespace lab
