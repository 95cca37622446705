#include "lab/core/signals.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace lab {
namespace {

// USR1 is what launchers and batch scripts pass on, and so may come by two ways, one of them slow.
constexpr int64_t same_request_ns(int number) { return number == SIGUSR1 ? 500'000'000 : 100'000'000; }

// A handler can reach nothing but what is global.
std::atomic<int> first_signal{0};
std::atomic<int64_t> first_time{0};
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

extern "C" void on_stop_signal(int number) {
  const int saved_errno = errno;
  int none = 0;
  if (first_signal.compare_exchange_strong(none, number)) {
    first_time = now_ns();
  } else if (now_ns() - first_time > same_request_ns(number)) {
    signal(number, SIG_DFL);
    kill(getpid(), number);  // takes effect when the handler returns
  }
  errno = saved_errno;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&action.sa_mask, number);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
}

int stop_signal() { return first_signal; }

}  // namespace lab
