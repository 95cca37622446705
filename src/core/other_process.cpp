#include "lab/core/other_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "lab/core/text.h"

namespace lab {
namespace {

// linux/pidfd.h of Linux 6.15; older kernels refuse the request, older headers do not know it.
struct PidfdInfo {
  uint64_t mask, cgroup;
  std::array<uint32_t, 11> ids;
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr uint64_t pidfd_info_exit = 1 << 3;
constexpr auto pidfd_get_info = _IOWR(0xFF, 11, PidfdInfo);

int pidfd_open(int pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

// Word `number` of the line, counted as in proc(5), where the state is 3.
std::string_view stat_word(std::string_view after_name, int number) {
  for (int at = 3; at < number; ++at)
    after_name.remove_prefix(std::min(after_name.find(' '), after_name.size() - 1) + 1);
  return after_name.substr(0, after_name.find(' '));
}

int64_t number_in(std::string_view word) { return std::strtoll(std::string(word).c_str(), nullptr, 10); }

}  // namespace

std::string read_proc(int pid, const char* name) {
  const int fd = open(text("/proc/", pid, "/", name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string out;
  std::array<char, 1 << 16> buffer;
  for (ssize_t got = 0; (got = read(fd, buffer.data(), buffer.size())) > 0;)
    out.append(buffer.data(), static_cast<size_t>(got));
  close(fd);
  return out;
}

std::optional<ProcessStat> process_stat(int pid) {
  const std::string line = read_proc(pid, "stat");
  const size_t name_end = line.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos || name_end + 2 >= line.size()) return std::nullopt;
  const std::string_view rest = std::string_view(line).substr(name_end + 2);
  return ProcessStat{rest.front(), number_in(stat_word(rest, 22)),
                     static_cast<int>(number_in(stat_word(rest, 52)))};
}

WatchedProcess::WatchedProcess(int pid, int64_t born) : pid_(pid), fd_(pidfd_open(pid)), born_(born) {
  const auto stat = process_stat(pid);  // after the descriptor, so that both are of the same process
  visible_ = born != 0;
  ended_before_ = visible_ && (!stat || stat->born != born);
  if ((visible_ && !ended_before_) || fd_ < 0) return;
  close(fd_);
  fd_ = -1;
}

WatchedProcess::~WatchedProcess() {
  if (fd_ >= 0) close(fd_);
}

WatchedProcess::WatchedProcess(WatchedProcess&& other) noexcept
    : pid_(other.pid_),
      fd_(std::exchange(other.fd_, -1)),
      born_(other.born_),
      visible_(other.visible_),
      ended_before_(other.ended_before_) {}

bool WatchedProcess::gone() const {
  if (!visible_) return false;
  if (ended_before_) return true;
  if (fd_ >= 0) {
    pollfd one{fd_, POLLIN, 0};
    return poll(&one, 1, 0) == 1 && one.revents != 0;
  }
  const auto stat = process_stat(pid_);
  return !stat || stat->born != born_ || stat->state == 'Z' || stat->state == 'X';
}

std::optional<int> WatchedProcess::wait_status() const {
  if (const auto stat = process_stat(pid_); stat && stat->born == born_ && stat->state == 'Z')
    return stat->wait_status;
  PidfdInfo info{};  // its parent has taken note of its end already: newer kernels still know
  info.mask = pidfd_info_exit;
  if (fd_ >= 0 && ioctl(fd_, pidfd_get_info, &info) == 0 && (info.mask & pidfd_info_exit) != 0)
    return info.exit_code;
  return std::nullopt;
}

char WatchedProcess::state() const {
  const auto stat = process_stat(pid_);
  return visible_ && stat && stat->born == born_ ? stat->state : '?';
}

void WatchedProcess::kill() const {
  if (fd_ >= 0 && syscall(SYS_pidfd_send_signal, fd_, SIGKILL, nullptr, 0) == 0) return;
  if (visible_ && !gone()) ::kill(pid_, SIGKILL);
}

}  // namespace lab
