#pragma once
// Where each rank of a node is, in memory that they share: the others can read it when one is stuck or gone.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lab/core/dtype.h"
#include "lab/core/shared_segment.h"

namespace lab {

class FlightRecord;

enum class Phase : int32_t { starting, loading, validating, training, saving, ending };
enum class Collective : int32_t {
  none,
  all_reduce,
  broadcast,
  all_gather,
  exchange,
  barrier,
  view,
  allocate,
  all_reduce_bf16
};
const char* name_of(Phase phase);
const char* name_of(Collective kind);

// How a rank goes. A process that is gone while it was still running has died.
enum class Leaving : int32_t { running, in_order, by_abort };

// A rank's place, as it was read. Fields may be from moments a few nanoseconds apart.
struct Beat {
  int rank = -1;     // of the job; -1: no rank has taken this slot
  int job = 0;       // its number, where the ranks have several; 0: they have one, or are between two
  int pid = 0;       // as the rank itself sees it
  int64_t born = 0;  // the process's start time, as in /proc/PID/stat: numbers are used again
  Phase phase = Phase::starting;
  int64_t step = -1;       // -1: before the first
  int64_t collective = 0;  // how many it has entered
  Collective kind = Collective::none;
  int64_t bytes = 0;
  bool inside = false;   // of that collective
  int64_t moved_at = 0;  // nanoseconds of CLOCK_MONOTONIC
  Leaving leaving = Leaving::running;
  int exit_code = 0;  // of a rank that aborts
  std::string last_word;
};

// "rank 1", "rank 1 of job 2"
std::string who(const Beat& beat);
// "in step 12, training, in all-reduce 345 (1.2 MiB)"
std::string where(const Beat& beat);

// The memory: a slot for each rank of the node. Where a system refuses shared memory the page is this
// process's own: the run goes on, and ranks then see only themselves.
class HeartbeatPage {
 public:
  static std::shared_ptr<HeartbeatPage> make(int slots);
  static std::shared_ptr<HeartbeatPage> open(const SegmentAddress& address, int slots);
  HeartbeatPage(const HeartbeatPage&) = delete;
  HeartbeatPage& operator=(const HeartbeatPage&) = delete;

  SegmentAddress address() const { return memory_->address(); }  // as long as it is not closed
  void close() { memory_->close(); }  // nobody else is going to open it; the memory itself stays
  int slots() const { return slots_; }
  bool shared() const { return memory_->shared(); }

 private:
  friend class Heartbeat;
  struct Slot;
  struct Head;
  HeartbeatPage(std::shared_ptr<SharedSegment> memory, int slots);
  static std::shared_ptr<HeartbeatPage> filled(std::shared_ptr<SharedSegment> memory, int slots);
  static size_t offset_of(int slot);
  Head& head() const;
  Slot& slot(int index) const;
  std::shared_ptr<SharedSegment> memory_;
  int slots_ = 0;
};

// One rank's hand on the page: it writes its own slot and reads all. Owned by the World. Writing is a few
// relaxed stores; step() and phase() belong to the thread that trains, enter() and exit() to whichever thread
// is in the collective, all else to any. Nothing here communicates, blocks or throws.
class Heartbeat {
 public:
  Heartbeat();  // one rank alone
  Heartbeat(std::shared_ptr<HeartbeatPage> page, int slot, int rank, int ranks);
  ~Heartbeat();

  // Of several jobs this rank does another one from now on, or (0) none, as one of so many ranks: nothing is
  // left of the one before. For the thread that trains, while nobody watches.
  void begin_job(int job, int rank, int ranks);

  void phase(Phase phase);
  void step(int64_t number);  // a training step begins
  void moved();               // anything else that shows life: a chunk validated, a file read
  void enter(Collective kind, int64_t bytes, DType type = DType::u8);  // type: of its elements
  void exit();

  // From now on collectives are written down there too. For the thread that owns the communicator, while
  // nothing is under way on it.
  void record_in(std::unique_ptr<FlightRecord> record);
  void lost(int rank);  // to be written down there: that this rank died or hangs

  // Why this rank is about to end by itself. The first word stands; it is cut after 255 bytes. May be called
  // in a signal handler.
  void last_word(std::string_view word);
  void leave_in_order();
  void leave_by_abort(int exit_code);  // and says itself why: the other ranks of the node say nothing more

  // True for one rank of the node, once: who speaks for all when the job ends badly.
  bool first_to_speak();
  void has_spoken();
  bool was_spoken() const;

  int slot() const { return slot_; }
  int slots() const { return page_->slots(); }
  bool sees_whole_job() const;  // all its ranks are on this page
  Beat beat(int slot) const;
  Beat own() const { return beat(slot_); }
  double median_step() const;  // seconds, of the last 64 steps; 0: none is finished yet

 private:
  std::shared_ptr<HeartbeatPage> page_;
  HeartbeatPage::Slot* mine_ = nullptr;
  int slot_ = 0, ranks_ = 1;
  int64_t step_began_ = 0;  // 0: no step is under way
  int64_t steps_timed_ = 0;
  std::array<std::atomic<int64_t>, 64> durations_{};  // nanoseconds; 0: none yet
  std::unique_ptr<FlightRecord> owned_record_;
  std::atomic<FlightRecord*> record_ = nullptr;  // the same, for all threads
};

// A collective for as long as it lives.
class InCollective {
 public:
  InCollective(Heartbeat& heartbeat, Collective kind, int64_t bytes, DType type = DType::u8)
      : heartbeat_(heartbeat) {
    heartbeat_.enter(kind, bytes, type);
  }
  ~InCollective() { heartbeat_.exit(); }
  InCollective(const InCollective&) = delete;
  InCollective& operator=(const InCollective&) = delete;

 private:
  Heartbeat& heartbeat_;
};

}  // namespace lab
