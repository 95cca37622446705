#pragma once
// Where the flight records of a run lie: flight/START/rank-NNNN.fr in its folder.

#include <string>

#include "app/session.h"

namespace lab {

// From now on each rank writes its collectives down there. The records of the start before stay, as who looks
// for what ended that one may come late; older ones go. Returns the words that tell how to read them; ""
// where they cannot be kept, of which the log says why: the run goes on. Every rank must call, with nothing
// under way on the communicator.
std::string keep_flight_records(Session& session, const std::string& run_folder);

}  // namespace lab
