#pragma once
// Sends a run's records while the run goes on, beside it.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "lab/core/log.h"
#include "lab/track/clearml_sender.h"

namespace lab {

struct ClearmlPace {
  std::chrono::milliseconds between{2'000};         // two rounds of sending
  std::chrono::milliseconds after_refusal{60'000};  // where another try will hardly help
  std::chrono::milliseconds round{15'000};          // the longest that one takes
  std::chrono::milliseconds ping{30'000};
  std::chrono::milliseconds silence{6'000'000};  // less than the server's two hours
};

// Two threads, one for records and one for the files of models, which take long. Never throws, never blocks
// who writes to the spool. What cannot be sent stays in the run folder; that is said when it begins and when
// it is over.
class ClearmlThread {
 public:
  // `sender` must outlive it. `aborted` is called, once, from the thread when somebody has aborted the task
  // on the server. `down`: that the server does not answer was said already.
  ClearmlThread(ClearmlSender& sender, Log log, bool down, std::function<void()> aborted,
                ClearmlPace pace = {});
  ~ClearmlThread();  // as finish(0)
  ClearmlThread(const ClearmlThread&) = delete;
  ClearmlThread& operator=(const ClearmlThread&) = delete;

  // Sends what is left, for so long at most. Whether all of it went.
  bool finish(std::chrono::milliseconds most);

 private:
  using Clock = std::chrono::steady_clock;
  void send_records();
  void upload_models();
  void look_after_task(Clock::time_point& pinged);
  void say(const std::optional<ApiError>& error);
  void wait(std::chrono::milliseconds time);  // or until the end begins
  Clock::time_point end() const;

  ClearmlSender& sender_;
  Log log_;
  std::function<void()> aborted_;
  ClearmlPace pace_;
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  bool ending_ = false, records_done_ = false, said_ = false;
  Clock::time_point end_ = Clock::time_point::max();
  std::thread records_, models_;
};

}  // namespace lab
