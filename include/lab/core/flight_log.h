#pragma once
// Flight records as they are read, of ranks that live or are gone, and what those of several ranks say
// together.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lab/core/flight_record.h"

namespace lab {

struct FlightEntry : CollectiveCall {
  int64_t ended = 0;  // on the same clock as `began`; 0: it had not
  std::string purpose;
};
// "all-reduce 345 (f32, 1.2 MiB, gradient bucket 2)"
std::string text_of(const FlightEntry& entry);

// One rank's record.
struct FlightLog {
  std::string path;
  int rank = 0, ranks = 1, pid = 0;
  std::string host;
  Leaving leaving = Leaving::running;  // how the process went, if it went by itself
  int exit_code = 0;                   // of one that aborted
  std::optional<int> lost;             // a rank that this one saw die or hang
  int64_t last = 0;                  // how many collectives it had begun; 0: none since the record was begun
  bool torn = false;                 // the last one is not among the entries: it was being written
  int64_t wall_clock = 0;            // nanoseconds: to be added to times of entries for those since 1970
  std::vector<FlightEntry> entries;  // by sequence number
  const FlightEntry* find(int64_t sequence) const;
};

// Throws InputNotFound, IoError, and DataError for a file that is none, is damaged or was cut short. The rank
// may be writing at the same time.
FlightLog read_flight_log(const std::string& path);

// The records that a path means: a file; a folder of them; or a run's folder, of which it is the newest
// start's. Throws InputNotFound where there are none.
std::vector<std::string> flight_files(const std::string& path);

// The numbers of the starts of which a run's folder `flight` holds records, in their order: each has a
// folder.
std::vector<int64_t> flight_starts(const std::string& folder);

enum class Flight {
  none,      // nobody is behind, and nobody waits
  aborted,   // the culprits ended the job themselves
  lost,      // they died or hung, as other ranks of their node saw
  apart,     // they entered another collective than the others
  behind,    // they have not entered the collective that the others have, or not left it
  together,  // all wait in the same one
  in_order,  // all left in good order
};
const char* name_of(Flight finding);

struct FlightFinding {
  Flight flight = Flight::none;
  std::vector<int> culprits;  // ranks
  std::string line;           // says it; no line break
};

// Compares sequence numbers, never times: clocks differ from node to node. A pure function of at least one
// log, each of another rank of the same job.
FlightFinding find_culprit(std::span<const FlightLog> logs);

}  // namespace lab
