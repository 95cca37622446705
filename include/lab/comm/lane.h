#pragma once
// A thread that runs work in order: how communication goes on while the owner computes.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "lab/comm/communicator.h"

namespace lab {

// Submitted work runs one piece after the other, on a thread that starts with the first. After a piece threw,
// later pieces are not run and their tickets throw the same. The destructor runs nothing more: it waits for
// the piece under way and drops the rest.
class Lane {
 public:
  Lane() = default;
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  Ticket submit(std::function<void()> work);
  // Until all that was submitted has been run, or has failed.
  void drain();

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<void()>> queue_;
  std::exception_ptr failed_;
  bool closing_ = false;
  std::thread thread_;
};

// Whether the caller is a lane's thread, whose core is that of a rank which computes.
bool in_lane();

// The same without a thread: a piece runs when its ticket is waited for, on the thread that waits, and those
// before it first. For work that needs this rank's core itself, which a thread beside would only take from
// who computes. What nobody waits for is not run.
class Deferred {
 public:
  Ticket submit(std::function<void()> work) {
    last_ = Ticket(std::async(std::launch::deferred, [before = last_, work = std::move(work)]() mutable {
                     std::exchange(before, {}).wait();  // nothing is kept of those that are done
                     work();
                   }).share());
    return last_;
  }

 private:
  Ticket last_;
};

}  // namespace lab
