#pragma once
// The jobs of a start with several configs: each on its share of the ranks, as if it had been started alone.

#include <functional>

#include "app/session.h"

namespace lab {

// Does `work` once for each config of the command line, with a session of its own: by a group of ranks, or,
// where there are fewer ranks than configs, by the rank that is free first. What fails ends its own job only;
// after a signal none begins. Then rank 0 tells what became of each, and returns, with all others, what
// exit_code_of() says. Every rank must call; AgreedError where the command line makes no sense.
ExitCode run_jobs(Session& all, const std::function<ExitCode(Session&)>& work);

}  // namespace lab
