#include "lab/comm/lane.h"

namespace lab {

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

void Lane::run() {
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
