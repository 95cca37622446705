#pragma once
// A thread that runs work in order: how communication goes on while the owner computes.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

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

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<void()>> queue_;
  std::exception_ptr failed_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace lab
