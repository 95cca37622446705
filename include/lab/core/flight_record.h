#pragma once
// The last 4,096 collectives of a rank, in a file that outlives its process whatever ends it; read by
// flight_log.h.

#include <string>

#include "lab/core/dtype.h"
#include "lab/core/heartbeat.h"

namespace lab {

namespace detail {
struct FlightHead;
struct FlightSlot;
}  // namespace detail

// A collective as it is entered.
struct CollectiveCall {
  int64_t sequence = 0;  // from 1: on all ranks of a job the same number is the same collective
  Collective kind = Collective::none;
  DType type = DType::u8;  // of its elements
  Phase phase = Phase::starting;
  int64_t step = -1;  // -1: before the first
  int64_t bytes = 0;
  int64_t began = 0;  // nanoseconds of CLOCK_MONOTONIC
};

// A ring of slots in a mapped file: what was stored is in the file, also when the process is killed in the
// very next instruction (not when the machine dies: nothing here waits for a disk). Owned by the Heartbeat.
// Writing is some stores, without a system call; by one thread at a time, that which is in the collective;
// left() and lost() by any.
class FlightRecord {
 public:
  // Makes the file, whose folder must be there, with all its blocks, so that a full disk shows here and not
  // as a signal later. Throws IoError, and leaves no file then, also where there is one already.
  FlightRecord(const std::string& path, int rank, int ranks);
  ~FlightRecord();  // the file stays
  FlightRecord(const FlightRecord&) = delete;
  FlightRecord& operator=(const FlightRecord&) = delete;

  void begin(const CollectiveCall& call);    // for the Errand of this thread
  void end(int64_t sequence, int64_t time);  // of the one that began last
  void left(Leaving how, int exit_code);
  void lost(int rank);  // died or hangs, as far as this rank can see

 private:
  detail::FlightSlot& slot(int64_t sequence) const;
  detail::FlightHead* head_ = nullptr;
};

}  // namespace lab
