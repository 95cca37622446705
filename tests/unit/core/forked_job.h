#pragma once
// A job of forked processes on one heartbeat page, each with a watchdog, and without MPI.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "lab/core/text.h"
#include "lab/core/watchdog.h"

// A number that the test and its processes share.
class Shared {
 public:
  Shared()
      : value_(new (mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) std::atomic<int>(0)) {}
  ~Shared() { munmap(value_, sizeof(std::atomic<int>)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  void add() { ++*value_; }
  void await(int value) const {
    while (*value_ < value) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

 private:
  std::atomic<int>* value_;
};

// What a rank has.
struct Rank {
  int number;
  lab::Heartbeat& heartbeat;
  lab::Watchdog& watchdog;

  // In a collective that never ends, as those are whose partner is gone.
  [[noreturn]] void wait_for_ever() const {
    heartbeat.enter(lab::Collective::all_reduce, 4096);
    for (;;) pause();
  }
};

// Its processes run from construction on, and are not waited for before end(): a launcher that takes its
// time.
class ForkedJob {
 public:
  using Work = std::function<void(Rank&)>;

  // Every rank does `work`, leaves in order and exits with 0. `before` comes first of all.
  ForkedJob(
      int ranks, const lab::WatchdogOptions& options, const Work& work,
      const std::function<void()>& before = [] {})
      : log_(std::filesystem::temp_directory_path() / lab::text("lab_forked_job_", getpid())),
        codes_(static_cast<size_t>(ranks), -1) {
    std::filesystem::remove(log_);
    const auto page = lab::HeartbeatPage::make(ranks);
    for (int number = 0; number < ranks; ++number) {
      pids_.push_back(fork());
      if (pids_.back() != 0) continue;
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      alarm(100);
      dup2(open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
      before();
      run(page, number, options, work);
      _exit(0);
    }
  }
  ~ForkedJob() {
    for (size_t i = 0; i < pids_.size(); ++i)
      if (codes_[i] < 0) kill(pids_[i], SIGKILL);
    end();
    std::filesystem::remove(log_);
  }
  ForkedJob(const ForkedJob&) = delete;
  ForkedJob& operator=(const ForkedJob&) = delete;

  void signal_all(int signal) const {
    for (const pid_t pid : pids_) kill(pid, signal);
  }

  // Waits for one rank, as a launcher does that is quick.
  void reap(int rank) {
    const auto i = static_cast<size_t>(rank);
    int status = 0;
    if (codes_[i] >= 0) return;
    waitpid(pids_[i], &status, 0);
    codes_[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // Waits for all and returns their exit codes, 128 + the signal for those that were killed.
  const std::vector<int>& end() {
    for (size_t i = 0; i < pids_.size(); ++i) {  // nobody is reaped before all are gone
      siginfo_t info{};
      if (codes_[i] < 0) waitid(P_PID, static_cast<id_t>(pids_[i]), &info, WEXITED | WNOWAIT);
    }
    for (size_t i = 0; i < pids_.size(); ++i) reap(static_cast<int>(i));
    return codes_;
  }

  // The lines that they wrote to stderr. After end().
  std::vector<std::string> said() const {
    std::vector<std::string> lines;
    std::ifstream file(log_);
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

 private:
  static void run(const std::shared_ptr<lab::HeartbeatPage>& page, int number,
                  const lab::WatchdogOptions& options, const Work& work) {
    const int ranks = page->slots();
    lab::Heartbeat heartbeat(page, number, number, ranks);
    for (int other = 0; other < ranks; ++other)
      while (heartbeat.beat(other).rank < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lab::Watchdog watchdog(heartbeat, lab::Log(number, ranks), options);
    Rank rank{number, heartbeat, watchdog};
    work(rank);
    heartbeat.leave_in_order();
  }

  std::string log_;
  std::vector<pid_t> pids_;
  std::vector<int> codes_;
};
