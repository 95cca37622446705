#include "app/flight.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/core/flight_log.h"
#include "lab/core/formatted.h"

namespace lab {
namespace {

void make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST)
    throw IoError("cannot make ", path, ": ", system_error_text(errno));
}

// A new one, of a number that was never used here: other nodes may remember old names.
std::string make_start(const std::string& folder) {
  make_folder(folder);
  const auto starts = flight_starts(folder);
  std::error_code ignored;
  for (size_t i = 0; i + 1 < starts.size(); ++i)
    std::filesystem::remove_all(text(folder, '/', starts[i]), ignored);
  const std::string start = text(folder, '/', starts.empty() ? 1 : starts.back() + 1);
  make_folder(start);
  return start;
}

std::string file_of(const std::string& start, int rank) { return start + formatted("/rank-%04d.fr", rank); }

}  // namespace

std::string keep_flight_records(Session& session, const std::string& run_folder) {
  Communicator& comm = session.comm();
  try {
    std::string start;
    agree(comm, [&] {
      if (comm.rank() == 0) start = make_start(run_folder + "/flight");
    });
    start = broadcast_bytes(comm, start);
    agree(comm, [&] {
      session.world.heartbeat().record_in(
          std::make_unique<FlightRecord>(file_of(start, comm.rank()), comm.rank(), comm.size()));
    });
    return text("The last collectives of each rank: lab_fr ", run_folder);
  } catch (const AgreedError& e) {
    if (comm.rank() == 0)
      session.log.warn("the run goes on without flight records, by which to see where ranks were: ",
                       e.what());
    return "";
  }
}

}  // namespace lab
