#include "lab/core/signals.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace lab {
namespace {

constexpr int64_t same_request_ns = 100'000'000;
// What launchers and batch scripts pass on, and so may come by two ways, one of them slow.
constexpr int64_t same_usr1_ns = 500'000'000;
int64_t same_term_ns = same_request_ns;  // set before the handlers are

// A handler can reach nothing but what is global.
std::atomic<int> first_signal{0};
std::atomic<int64_t> first_time{0};
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// How long after the first one this signal is taken for the same request.
int64_t repeats_ns(int number) {
  return number == SIGTERM ? same_term_ns : number == SIGUSR1 ? same_usr1_ns : same_request_ns;
}

extern "C" void on_stop_signal(int number) {
  const int saved_errno = errno;
  int none = 0;
  if (first_signal.compare_exchange_strong(none, number)) {
    first_time = now_ns();
  } else if (now_ns() - first_time > repeats_ns(number)) {
    signal(number, SIG_DFL);
    kill(getpid(), number);  // takes effect when the handler returns
  }
  errno = saved_errno;
}

}  // namespace

void catch_stop_signals(std::chrono::nanoseconds term_repeats) {
  same_term_ns = term_repeats.count();
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&action.sa_mask, number);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
}

int stop_signal() { return first_signal; }

}  // namespace lab
