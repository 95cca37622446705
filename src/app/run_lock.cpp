#include "app/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "app/launch.h"
#include "lab/app/run_folder.h"
#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t old_after_seconds = 180;
constexpr auto keep_young_every = std::chrono::seconds(30);
constexpr int tries_for_the_lock = 15;
constexpr auto between_tries = std::chrono::milliseconds(200);

std::string lock_file(const std::string& folder) { return folder + "/lock"; }

struct Holder {
  std::string host, text;
  int64_t age_seconds = 0;
};

Holder holder_of(int fd) {
  std::array<char, 1024> bytes{};
  const ssize_t got = pread(fd, bytes.data(), bytes.size(), 0);
  struct stat info {};
  fstat(fd, &info);
  Holder holder{"", "somebody", time(nullptr) - info.st_mtime};
  if (got <= 0) return holder;
  const Json json = Json::parse(bytes.begin(), bytes.begin() + got, nullptr, false);
  if (!json.is_object()) return holder;
  holder.host = json.value("host", "");
  holder.text =
      text("process ", json.value("pid", 0), " on ", holder.host, ", since ", json.value("since", ""));
  return holder;
}

// Whether a process on another node, which its file system does not tell us of, seems to be at work.
bool fresh_elsewhere(const Holder& holder) {
  return !holder.host.empty() && holder.host != host_name() && holder.age_seconds < old_after_seconds;
}

}  // namespace

RunLock::RunLock(const std::string& folder, bool same_job)
    : fd_(open(lock_file(folder).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (fd_ < 0)
    throw IoError("cannot open ", lock_file(folder), ": ", system_error_text(errno),
                  "; check that the run's folder may be written to");
  bool taken = true;
  for (int tries = 0; tries < tries_for_the_lock && taken; ++tries) {
    if (tries > 0) std::this_thread::sleep_for(between_tries);
    taken = flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }
  const Holder holder = holder_of(fd_);
  if (taken || (!same_job && fresh_elsewhere(holder))) {
    close(fd_);
    throw UsageError(folder, " is being written by ", holder.text,
                     "; wait until it has ended, or start another run without --resume",
                     taken ? ""
                           : text(" (if that process is dead: its lock is too old in ",
                                  old_after_seconds - holder.age_seconds, " s)"));
  }
  const std::string mine =
      Json({{"host", host_name()}, {"pid", getpid()}, {"since", utc_text(std::chrono::system_clock::now())}})
          .dump();
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, mine.data(), mine.size(), 0) != std::ssize(mine)) {
    const int problem = errno;
    close(fd_);
    throw IoError("cannot write ", lock_file(folder), ": ", system_error_text(problem),
                  "; check free space and rights");
  }
  keeper_ = std::jthread([this](const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, stop, keep_young_every, [] { return false; }) && !stop.stop_requested())
      futimens(fd_, nullptr);
  });
}

RunLock::~RunLock() {
  keeper_.request_stop();
  keeper_.join();
  if (ftruncate(fd_, 0) != 0) {
    // Its text stays; the lock itself goes with the descriptor.
  }
  close(fd_);
}

bool RunLock::is_held(const std::string& folder) {
  const int fd = open(lock_file(folder).c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const bool held =
      (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) || fresh_elsewhere(holder_of(fd));
  close(fd);
  return held;
}

}  // namespace lab
