#include "lab/core/program.h"

#include <exception>
#include <iostream>

#include "lab/core/error.h"

namespace lab {

int run_program(const std::string& name, const std::function<int()>& run) {
  const auto fail = [&](const std::string& message, ExitCode code) {
    std::cerr << name << ": " << message << "\n";
    return static_cast<int>(code);
  };
  try {
    const int code = run();
    if (!std::cout.flush()) throw IoError("cannot write to the standard output; check where it goes");
    return code;
  } catch (const Error& problem) {
    return fail(problem.what(), problem.code());
  } catch (const std::exception& problem) {
    return fail(text("this is a bug in ", name, ": ", problem.what()), ExitCode::bug);
  }
}

}  // namespace lab
