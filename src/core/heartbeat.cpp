#include "lab/core/heartbeat.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "lab/core/error.h"
#include "lab/core/flight_record.h"
#include "lab/core/other_process.h"
#include "lab/core/text.h"

namespace lab {
namespace {

constexpr auto relaxed = std::memory_order_relaxed;

template <class T>
using Cell = std::atomic<T>;
static_assert(Cell<int32_t>::is_always_lock_free && Cell<int64_t>::is_always_lock_free);

int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

enum class Word : int32_t { none, being_written, written };
enum class Voice : int32_t { free, taken, heard };

}  // namespace

const char* name_of(Phase phase) {
  constexpr std::array names = {"starting", "loading", "validating", "training", "saving", "ending"};
  return names.at(static_cast<size_t>(phase));
}

const char* name_of(Collective kind) {
  constexpr std::array names = {"no collective", "all-reduce", "broadcast",  "all-gather",        "exchange",
                                "barrier",       "view",       "allocation", "all-reduce by bf16"};
  return names.at(static_cast<size_t>(kind));
}

std::string who(const Beat& beat) {
  return beat.job > 0 ? text("rank ", beat.rank, " of job ", beat.job) : text("rank ", beat.rank);
}

std::string where(const Beat& beat) {
  std::string out = beat.step < 0 ? "before the first step, " : text("in step ", beat.step, ", ");
  out += name_of(beat.phase);
  if (beat.kind == Collective::none) return out;
  out += text(beat.inside ? ", in " : ", after ", name_of(beat.kind), ' ', beat.collective);
  if (beat.bytes > 0) out += text(" (", byte_size(static_cast<uint64_t>(beat.bytes)), ")");
  return out;
}

// What the page begins with.
struct alignas(64) HeartbeatPage::Head {
  Cell<Voice> voice{Voice::free};
};

// On cache lines of its own, so that one rank's beats do not slow another's.
struct alignas(64) HeartbeatPage::Slot {
  Cell<int32_t> rank{-1}, job{0}, pid{0};
  Cell<int64_t> born{0};
  Cell<Phase> phase{Phase::starting};
  Cell<Collective> kind{Collective::none};
  Cell<int64_t> step{-1}, collective{0}, bytes{0}, moved_at{0};
  Cell<int32_t> inside{0}, exit_code{0};
  Cell<Leaving> leaving{Leaving::running};
  Cell<Word> word{Word::none};
  std::array<char, 256> text{};
};

size_t HeartbeatPage::offset_of(int slot) { return sizeof(Head) + sizeof(Slot) * static_cast<size_t>(slot); }

HeartbeatPage::HeartbeatPage(std::shared_ptr<SharedSegment> memory, int slots)
    : memory_(std::move(memory)), slots_(slots) {}

std::shared_ptr<HeartbeatPage> HeartbeatPage::filled(std::shared_ptr<SharedSegment> memory, int slots) {
  new (memory->data()) Head;
  for (int i = 0; i < slots; ++i) new (memory->data() + offset_of(i)) Slot;
  return std::shared_ptr<HeartbeatPage>(new HeartbeatPage(std::move(memory), slots));
}

std::shared_ptr<HeartbeatPage> HeartbeatPage::make(int slots) {
  try {
    return filled(SharedSegment::make(offset_of(slots)), slots);
  } catch (const Unavailable&) {
    return filled(SharedSegment::make_private(offset_of(slots)), slots);
  }
}

std::shared_ptr<HeartbeatPage> HeartbeatPage::open(const SegmentAddress& address, int slots) {
  try {
    auto memory = SharedSegment::open(address, offset_of(slots));
    memory->close();
    return std::shared_ptr<HeartbeatPage>(new HeartbeatPage(std::move(memory), slots));
  } catch (const Unavailable&) {
    return make(slots);
  }
}

HeartbeatPage::Head& HeartbeatPage::head() const {
  return *std::launder(reinterpret_cast<Head*>(memory_->data()));
}

HeartbeatPage::Slot& HeartbeatPage::slot(int index) const {
  return *std::launder(reinterpret_cast<Slot*>(memory_->data() + offset_of(index)));
}

Heartbeat::Heartbeat() : Heartbeat(HeartbeatPage::make(1), 0, 0, 1) {}

Heartbeat::Heartbeat(std::shared_ptr<HeartbeatPage> page, int slot, int rank, int ranks)
    : page_(std::move(page)), mine_(&page_->slot(slot)), slot_(slot), ranks_(ranks) {
  const auto stat = process_stat(getpid());
  mine_->pid.store(getpid(), relaxed);
  mine_->born.store(stat ? stat->born : 0, relaxed);
  moved();
  mine_->rank.store(rank, std::memory_order_release);  // last: the slot is taken
}

Heartbeat::~Heartbeat() = default;

void Heartbeat::begin_job(int job, int rank, int ranks) {
  record_in(nullptr);
  ranks_ = ranks;
  steps_timed_ = 0;
  for (auto& duration : durations_) duration.store(0, relaxed);
  mine_->job.store(job, relaxed);
  mine_->rank.store(rank, relaxed);
  mine_->step.store(-1, relaxed);
  mine_->word.store(Word::none, relaxed);
  mine_->text.fill(0);
  phase(job == 0 ? Phase::ending : Phase::starting);
}

void Heartbeat::moved() { mine_->moved_at.store(now(), relaxed); }

void Heartbeat::phase(Phase phase) {
  step_began_ = 0;  // what comes between two steps is part of neither
  mine_->phase.store(phase, relaxed);
  moved();
}

void Heartbeat::step(int64_t number) {
  const int64_t time = now();
  if (step_began_ != 0)
    durations_[static_cast<size_t>(steps_timed_++) % durations_.size()].store(
        std::max<int64_t>(time - step_began_, 1), relaxed);
  step_began_ = time;
  mine_->phase.store(Phase::training, relaxed);
  mine_->step.store(number, relaxed);
  mine_->moved_at.store(time, relaxed);
}

void Heartbeat::enter(Collective kind, int64_t bytes, DType type) {
  const int64_t time = now(), number = mine_->collective.load(relaxed) + 1;
  mine_->kind.store(kind, relaxed);
  mine_->bytes.store(bytes, relaxed);
  mine_->collective.store(number, relaxed);
  mine_->inside.store(1, relaxed);
  mine_->moved_at.store(time, relaxed);
  if (FlightRecord* record = record_.load(relaxed))
    record->begin({number, kind, type, mine_->phase.load(relaxed), mine_->step.load(relaxed), bytes, time});
}

void Heartbeat::exit() {
  const int64_t time = now();
  mine_->inside.store(0, relaxed);
  mine_->moved_at.store(time, relaxed);
  if (FlightRecord* record = record_.load(relaxed)) record->end(mine_->collective.load(relaxed), time);
}

void Heartbeat::record_in(std::unique_ptr<FlightRecord> record) {
  owned_record_.swap(record);
  record_.store(owned_record_.get(), std::memory_order_release);
}

void Heartbeat::lost(int rank) {
  if (FlightRecord* record = record_.load(std::memory_order_acquire)) record->lost(rank);
}

void Heartbeat::last_word(std::string_view word) {
  Word none = Word::none;
  if (!mine_->word.compare_exchange_strong(none, Word::being_written)) return;
  std::memcpy(mine_->text.data(), word.data(), std::min(word.size(), mine_->text.size() - 1));
  mine_->word.store(Word::written, std::memory_order_release);
}

void Heartbeat::leave_in_order() {
  phase(Phase::ending);
  mine_->leaving.store(Leaving::in_order);
  if (FlightRecord* record = record_.load(std::memory_order_acquire)) record->left(Leaving::in_order, 0);
}

void Heartbeat::leave_by_abort(int exit_code) {
  first_to_speak();
  has_spoken();
  mine_->exit_code.store(exit_code, relaxed);
  mine_->leaving.store(Leaving::by_abort);
  if (FlightRecord* record = record_.load(std::memory_order_acquire))
    record->left(Leaving::by_abort, exit_code);
  moved();
}

bool Heartbeat::first_to_speak() {
  Voice free = Voice::free;
  return page_->head().voice.compare_exchange_strong(free, Voice::taken);
}

void Heartbeat::has_spoken() { page_->head().voice.store(Voice::heard); }
bool Heartbeat::was_spoken() const { return page_->head().voice.load() == Voice::heard; }
bool Heartbeat::sees_whole_job() const {
  const int job = mine_->job.load(relaxed);
  int seen = 0;
  for (int slot = 0; slot < page_->slots(); ++slot) seen += page_->slot(slot).job.load(relaxed) == job;
  return ranks_ == (page_->shared() ? seen : 1);
}

Beat Heartbeat::beat(int slot) const {
  const HeartbeatPage::Slot& s = page_->slot(slot);
  Beat beat;
  beat.rank = s.rank.load(std::memory_order_acquire);
  beat.job = s.job.load(relaxed);
  beat.pid = s.pid.load(relaxed);
  beat.born = s.born.load(relaxed);
  beat.phase = s.phase.load(relaxed);
  beat.step = s.step.load(relaxed);
  beat.collective = s.collective.load(relaxed);
  beat.kind = s.kind.load(relaxed);
  beat.bytes = s.bytes.load(relaxed);
  beat.inside = s.inside.load(relaxed) != 0;
  beat.moved_at = s.moved_at.load(relaxed);
  beat.leaving = s.leaving.load();
  beat.exit_code = s.exit_code.load(relaxed);
  if (s.word.load(std::memory_order_acquire) == Word::written) beat.last_word = s.text.data();
  return beat;
}

double Heartbeat::median_step() const {
  std::array<int64_t, 64> known{};
  size_t count = 0;
  for (const auto& duration : durations_)
    if (const int64_t value = duration.load(relaxed); value > 0) known[count++] = value;
  if (count == 0) return 0;
  const auto middle = known.begin() + static_cast<int64_t>(count / 2);
  std::nth_element(known.begin(), middle, known.begin() + static_cast<int64_t>(count));
  return static_cast<double>(*middle) * 1e-9;
}

}  // namespace lab
