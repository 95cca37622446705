#pragma once
// What the main() of a program without ranks is.

#include <functional>
#include <string>

namespace lab {

// Returns the exit code of the process: that of `run`, or of what it throws, which is then said on the
// standard error after the program's name. What `run` printed is flushed; where that fails, the code is that
// of an IoError.
int run_program(const std::string& name, const std::function<int()>& run);

}  // namespace lab
