#include "lab/comm/lane.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "lab/core/cores.h"

namespace lab {
namespace {

// sched_setattr(2), in its first version; the C library has no declaration of it, and the kernel's does not
// go with the C library's others.
struct SchedulingAttributes {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;  // ns
};

// A lane mostly waits, and what it does between two waits is short, but a link stands still until it is done.
// The kernel lets a thread of short turns go before one that computes (Linux 6.12 and later: EEVDF's custom
// slices; others take no notice, or refuse, which changes nothing).
void ask_for_short_turns() {
  constexpr uint64_t shortest = 100'000;  // ns, the least that the kernel knows
  SchedulingAttributes wanted = {};
  if (syscall(SYS_sched_getattr, 0, &wanted, sizeof wanted, 0) != 0) return;
  wanted.runtime = shortest;
  syscall(SYS_sched_setattr, 0, &wanted, 0);
}

thread_local bool is_lane = false;

}  // namespace

bool in_lane() { return is_lane; }

Lane::~Lane() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

Ticket Lane::submit(std::function<void()> work) {
  std::packaged_task<void()> task([this, work = std::move(work)] {
    if (failed_) std::rethrow_exception(failed_);
    try {
      work();
    } catch (...) {
      failed_ = std::current_exception();  // only the lane's thread touches it
      throw;
    }
  });
  Ticket ticket(task.get_future().share());
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  wake_.notify_one();
  return ticket;
}

void Lane::drain() {
  try {
    submit([] {}).wait();
  } catch (const std::exception&) {  // who waited for that piece knows
  }
}

void Lane::run() {
  is_lane = true;
  use_spare_cores();
  ask_for_short_turns();
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (closing_) return;
    auto task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task();
  }
}

}  // namespace lab
