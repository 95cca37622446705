#include "lab/core/signals.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

namespace {

using namespace std::chrono_literals;

// How a process ends that gets a signal twice, 0.6 s apart: 0, or minus the signal that ended
// it.
int end_after_two(int number, std::chrono::nanoseconds term_repeats) {
  const pid_t child = fork();
  if (child == 0) {
    lab::catch_stop_signals(term_repeats);
    raise(number);
    std::this_thread::sleep_for(600ms);
    raise(number);
    _exit(lab::stop_signal() == number ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

TEST(StopSignals, TheSecondOneEndsTheProcess) {
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) EXPECT_EQ(end_after_two(number, 100ms), -number);
}

TEST(StopSignals, OnlyTermMayBeRepeatedByTheLauncher) {
  EXPECT_EQ(end_after_two(SIGTERM, 1h), 0);
  EXPECT_EQ(end_after_two(SIGUSR1, 1h), -SIGUSR1);
  EXPECT_EQ(end_after_two(SIGINT, 1h), -SIGINT);
}

}  // namespace
