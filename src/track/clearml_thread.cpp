#include "lab/track/clearml_thread.h"

#include <algorithm>
#include <utility>

#include "lab/core/cores.h"

namespace lab {
namespace {
using std::chrono::milliseconds;
constexpr milliseconds between_last_rounds{100};
}  // namespace

ClearmlThread::ClearmlThread(ClearmlSender& sender, Log log, bool down, std::function<void()> aborted,
                             ClearmlPace pace)
    : sender_(sender),
      log_(std::move(log)),
      aborted_(std::move(aborted)),
      pace_(pace),
      said_(down),
      records_([this] { send_records(); }),
      models_([this] { upload_models(); }) {}

ClearmlThread::~ClearmlThread() { finish(milliseconds(0)); }

bool ClearmlThread::finish(milliseconds most) {
  if (!records_.joinable()) return sender_.done();
  const auto now = Clock::now();
  {
    std::unique_lock lock(mutex_);
    ending_ = true;
    end_ = now + most;
    woken_.notify_all();
    // A call that began before the end may take longer than there is time: the last round begins without it.
    if (!woken_.wait_until(lock, now + most / 2, [this] { return records_done_; })) {
      lock.unlock();
      sender_.interrupt();
      lock.lock();
    }
    woken_.wait_until(lock, end_, [this] { return records_done_; });
  }
  sender_.cancel();
  records_.join();
  models_.join();
  return sender_.done();
}

void ClearmlThread::send_records() {
  use_spare_cores();
  auto pinged = Clock::now();
  for (;;) {
    const auto error =
        sender_.send(std::min(pace_.round, std::chrono::duration_cast<milliseconds>(end() - Clock::now())));
    if (!error) look_after_task(pinged);
    {
      const std::lock_guard lock(mutex_);
      if (ending_ && ((!error && sender_.done()) || Clock::now() >= end_)) {
        records_done_ = true;
        woken_.notify_all();
        return;
      }
    }
    say(error);
    wait(error && !error->temporary ? pace_.after_refusal : pace_.between);
  }
}

void ClearmlThread::upload_models() {
  use_spare_cores();
  for (bool said = false;;) {
    const auto error = sender_.upload(std::chrono::hours(24), end() != Clock::time_point::max());
    {
      const std::lock_guard lock(mutex_);
      if (ending_ && (records_done_ || Clock::now() >= end_)) return;
    }
    if (!error) said = false;
    if (error && !error->message.empty() && !std::exchange(said, true))
      log_.warn(in_words(*error), "; the run goes on, its models wait in its folder and are sent later");
    wait(error && !error->temporary ? pace_.after_refusal : pace_.between);
  }
}

void ClearmlThread::look_after_task(Clock::time_point& pinged) {
  const auto now = Clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (ending_) return;
  }
  if (now - pinged >= pace_.silence) sender_.revive(pace_.round);
  if (now - pinged >= pace_.ping) {
    sender_.ping(pace_.round);
    pinged = now;
  }
  if (aborted_ && sender_.aborted(pace_.round)) std::exchange(aborted_, nullptr)();
}

void ClearmlThread::say(const std::optional<ApiError>& error) {
  if (error && error->message.empty()) return;
  if (error && !std::exchange(said_, true))
    log_.warn(in_words(*error), "; the run goes on, its records wait in its folder and are sent later");
  else if (!error && std::exchange(said_, false))
    log_.info("ClearML takes the run's records again");
}

void ClearmlThread::wait(milliseconds time) {
  std::unique_lock lock(mutex_);
  if (ending_) time = std::min(time, between_last_rounds);
  woken_.wait_for(lock, time, [this, was = ending_] { return ending_ && !was; });
}

ClearmlThread::Clock::time_point ClearmlThread::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

}  // namespace lab
