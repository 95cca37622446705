#pragma once
// What --debug does on an exception: says where it was thrown, and waits until a debugger looks.

#include <string>

#include "lab/core/log.h"

namespace lab {

// From now on the stack of each throw is kept, of the newest few in this process. Costs nothing before.
// Again: those that were kept are forgotten.
void keep_throws();
// What was thrown since, and from where: a line for the type and one for each function, with file and line
// where the program has debug information; the oldest first, as a first error often leads to another. Empty
// when nothing was. Any thread.
std::string recent_throws();

// Says on the log how to attach a debugger to this process, and returns when one has, stopped where it
// may go up the stack, or when the process is asked to stop (lab/core/signals.h).
void wait_for_debugger(const Log& log);

}  // namespace lab
