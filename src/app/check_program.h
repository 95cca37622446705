#pragma once
// lab_train --check: what is wrong with a run, before it costs anybody anything.

#include <vector>

#include "app/session.h"
#include "lab/app/experiment.h"

namespace lab {

// Looks at the config, the data, the plan, a forward and a backward of its first samples, and the room on the
// disk; on a processor, without a server, and without leaving anything behind. Tells on standard output what
// the run would be, and everything that is wrong with it. The exit code of the first mistake, else 0; the
// same on every rank. ranks: that would train. Every rank must call.
ExitCode check_run(Session& session, const std::vector<Experiment>& experiments, int ranks);

}  // namespace lab
