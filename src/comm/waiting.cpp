#include "comm/waiting.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace lab {
namespace {

static_assert(std::atomic<uint32_t>::is_always_lock_free &&
              sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

// Not the private kind: the word is mapped at other addresses in other processes.
void futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* limit) {
  syscall(SYS_futex, &word, operation, value, limit, nullptr, 0);
}

// Leaves the core's other hardware thread and its caches alone for a moment.
void rest() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Patience Patience::of(int ranks, int cores) {
  if (ranks <= cores) return {2000, 0};
  return {50, 2 * ranks};
}

void TurnCounter::advance() {
  // In one order with what sleep() does: either it sees the turn, or this sees the sleeper.
  turns_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) futex(turns_, FUTEX_WAKE, INT_MAX, nullptr);
}

bool TurnCounter::reached(uint32_t turns) const {
  return static_cast<int32_t>(turns_.load(std::memory_order_acquire) - turns) >= 0;
}

void TurnCounter::await(uint32_t turns, const Patience& patience) {
  for (int i = 0; i < patience.looks; ++i) {
    if (reached(turns)) return;
    rest();
  }
  for (int i = 0; i < patience.yields; ++i) {
    if (reached(turns)) return;
    sched_yield();
  }
  while (!reached(turns)) sleep(turns);
}

void TurnCounter::sleep(uint32_t turns) {
  const timespec limit{0, 100'000'000};
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  const uint32_t seen = turns_.load(std::memory_order_seq_cst);
  if (static_cast<int32_t>(seen - turns) < 0) futex(turns_, FUTEX_WAIT, seen, &limit);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace lab
