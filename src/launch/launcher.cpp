#include "launch/launcher.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>

#include "lab/core/error.h"

namespace lab {
namespace {

constexpr std::array stopping = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (const int signal : stopping) {
    struct sigaction now {};
    sigaction(signal, nullptr, &now);
    if (signal != SIGHUP || now.sa_handler != SIG_IGN) sigaddset(&set, signal);  // nohup stays nohup
  }
  return set;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> out;
  for (const std::string& word : words) out.push_back(const_cast<char*>(word.c_str()));
  out.push_back(nullptr);
  return out;
}

// Between fork and exec.
[[noreturn]] void become(pid_t parent, char* const* words, char* const* environment) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(0);  // it was gone before we asked
  setsid();
  for (const int signal : stopping) std::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (const int null = open("/dev/null", O_RDONLY); null >= 0) dup2(null, STDIN_FILENO);
  execve(words[0], words, environment);
  std::fprintf(stderr, "lab_run: cannot start %s: %s\n", words[0], system_error_text(errno).c_str());
  _exit(static_cast<int>(ExitCode::unavailable));
}

}  // namespace

Signals::Signals() {
  const sigset_t set = watched();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGCHLD, SIG_DFL);  // where it is ignored, exit codes are lost
}

Received Signals::wait(std::optional<std::chrono::milliseconds> most) const {
  const sigset_t set = watched();
  siginfo_t info{};
  int signal = 0;
  if (most) {
    const timespec time = {most->count() / 1000, most->count() % 1000 * 1'000'000};
    signal = sigtimedwait(&set, &info, &time);
  } else {
    signal = sigwaitinfo(&set, &info);
  }
  return signal > 0 ? Received{signal, info.si_pid} : Received{};
}

Launcher::Launcher(const LaunchCommand& command, const std::vector<std::string>& environment) {
  std::vector<std::string> all = environment;
  for (const auto& [name, value] : command.environment) all.push_back(text(name, "=", value));
  const std::vector<char*> words = pointers(command.words), variables = pointers(all);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) throw IoError("cannot fork: ", system_error_text(errno), "; are there too many processes?");
  if (pid_ == 0) become(parent, words.data(), variables.data());
}

std::optional<int> Launcher::ended() {
  int status = 0;
  if (!code_ && waitpid(pid_, &status, WNOHANG) == pid_)
    code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return code_;
}

void Launcher::signal(int signal) const {
  if (!code_) kill(pid_, signal);
}

void Launcher::signal_group(int signal) const {
  if (!code_) kill(-pid_, signal);
}

}  // namespace lab
