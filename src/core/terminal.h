#pragma once
// Whether somebody watches.

#include <string>

namespace lab::detail {

// Whether a launcher shows what its processes say on stderr on a terminal, as they said it. name: of the
// program; words: its command line, each word with a '\0' behind it; its_stderr: what its descriptor 2 is.
bool shows_on_terminal(const std::string& name, const std::string& words, const std::string& its_stderr);

// Whether this process's stderr is a terminal, or a pipe to such a launcher: mpirun gives one to each rank.
bool stderr_is_watched();

}  // namespace lab::detail
