#include "launch/sweeper.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>

#include "lab/core/error.h"
#include "lab/launch/processes.h"

namespace lab {
namespace {

// The launcher is sent SIGTERM by the kernel when we die, and gives the ranks two seconds to save.
constexpr std::chrono::milliseconds time_to_leave{3500};

[[noreturn]] void wait_and_sweep(int pipe, const std::string& run_id, const std::string& folder) {
  setsid();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE}) std::signal(signal, SIG_IGN);
  char done = 0;
  ssize_t got = 0;
  while ((got = read(pipe, &done, 1)) < 0 && errno == EINTR) {
  }
  if (got == 0) {
    wait_until_gone(run_id, time_to_leave);
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  _exit(0);
}

}  // namespace

Sweeper::Sweeper(const std::string& run_id, const std::string& folder) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw IoError("cannot make a pipe: ", system_error_text(errno));
  pipe_ = ends[1];
  child_ = fork();
  if (child_ == 0) {
    close(ends[1]);
    wait_and_sweep(ends[0], run_id, folder);
  }
  close(ends[0]);
  if (child_ < 0) {
    close(ends[1]);
    throw IoError("cannot fork: ", system_error_text(errno), "; are there too many processes?");
  }
}

void Sweeper::done() {
  const char done = 1;
  if (write(pipe_, &done, 1) < 0) return;  // it has ended before us: so be it
}

Sweeper::~Sweeper() {
  close(pipe_);
  while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace lab
