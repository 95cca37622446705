#include "lab/launch/processes.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include "lab/core/other_process.h"
#include "lab/core/text.h"
#include "lab/launch/command.h"

namespace lab {
namespace {

constexpr std::chrono::milliseconds look_again{20};
constexpr std::chrono::seconds longest_death{30};  // a process that hangs in the kernel cannot be waited for

// The value behind "NAME:" of a status file, up to the end of its line.
std::string_view status_value(std::string_view status, std::string_view name) {
  const size_t at = status.find(name);
  if (at == std::string_view::npos) return {};
  std::string_view value = status.substr(at + name.size());
  value = value.substr(0, value.find('\n'));
  return value.substr(std::min(value.find_first_not_of(" \t"), value.size()));
}

bool has_signal(std::string_view hexadecimal, int signal) {
  uint64_t mask = 0;
  std::from_chars(hexadecimal.data(), hexadecimal.data() + hexadecimal.size(), mask, 16);
  return (mask >> (signal - 1) & 1) != 0;
}

}  // namespace

bool has_entry(std::string_view environ_text, std::string_view entry) {
  while (!environ_text.empty()) {
    const size_t end = environ_text.find('\0');
    if (environ_text.substr(0, end) == entry) return true;
    if (end == std::string_view::npos) return false;
    environ_text.remove_prefix(end + 1);
  }
  return false;
}

JobProcess job_process(pid_t pid, std::string_view environ_text, std::string_view status_text) {
  using namespace std::literals;
  JobProcess out{pid, "", false};
  constexpr std::string_view rank = "\0PMIX_RANK="sv;
  if (const size_t at = environ_text.find(rank); at != std::string_view::npos) {
    const std::string_view value = environ_text.substr(at + rank.size());
    out.rank = value.substr(0, value.find('\0'));
  }
  out.survives_usr1 = has_signal(status_value(status_text, "\nSigCgt:"), SIGUSR1) ||
                      has_signal(status_value(status_text, "\nSigIgn:"), SIGUSR1);
  return out;
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> out;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto [stop, problem] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (problem == std::errc() && *stop == '\0') out.push_back(pid);
  }
  return out;
}

std::vector<JobProcess> processes_of(const std::string& run_id) {
  const std::string entry = text(run_id_variable, "=", run_id);
  std::vector<JobProcess> out;
  for (const pid_t pid : all_processes())
    if (const std::string environ_text = read_proc(pid, "environ"); has_entry(environ_text, entry))
      out.push_back(job_process(pid, environ_text, read_proc(pid, "status")));
  return out;
}

bool ready_for_usr1(const std::vector<JobProcess>& processes, int at_least) {
  std::map<std::string, bool> ranks;  // a rank may be a shell and what it runs: one that catches is enough
  for (const JobProcess& process : processes)
    if (!process.rank.empty()) ranks[process.rank] |= process.survives_usr1;
  return std::ssize(ranks) >= at_least &&
         std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.second; });
}

int wait_until_gone(const std::string& run_id, std::chrono::milliseconds grace) {
  const auto patience = std::chrono::steady_clock::now() + grace;
  std::set<pid_t> killed;
  for (;;) {
    const std::vector<JobProcess> left = processes_of(run_id);
    if (left.empty()) return static_cast<int>(killed.size());
    const auto now = std::chrono::steady_clock::now();
    if (now >= patience + longest_death) return static_cast<int>(killed.size());
    if (now >= patience)
      for (const JobProcess& process : left)
        if (kill(process.pid, SIGKILL) == 0) killed.insert(process.pid);
    std::this_thread::sleep_for(look_again);
  }
}

}  // namespace lab
