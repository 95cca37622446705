#include "lab/launch/leftovers.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <optional>
#include <utility>

#include "lab/core/error.h"
#include "lab/launch/processes.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

constexpr int64_t newborn_seconds = 2;  // its maker may not have locked, opened or mapped it yet

// An open file or folder; closing it gives up its lock.
class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  bool is_open() const { return fd_ >= 0; }
  bool lock() const { return flock(fd_, LOCK_EX | LOCK_NB) == 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

std::string our_prefix(const Places& places) { return text("lab_run.", places.user, "."); }

// Entries of a folder that are this user's, begin with `prefix`, and are no newborns.
std::vector<std::string> entries(const std::string& folder, const std::string& prefix, unsigned user) {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    struct stat info {};
    if (!entry.path().filename().string().starts_with(prefix)) continue;
    if (lstat(entry.path().c_str(), &info) != 0 || info.st_uid != user || S_ISLNK(info.st_mode)) continue;
    if (std::time(nullptr) - info.st_ctim.tv_sec > newborn_seconds) out.push_back(entry.path());
  }
  return out;
}

// Adds what a process has open or mapped. False: it is ours and does not let us look.
bool add_held(pid_t pid, unsigned user, std::vector<std::string>& held) {
  struct stat info {};
  const std::string process = text("/proc/", pid);
  if (stat(process.c_str(), &info) != 0) return true;  // it has ended
  if (access((process + "/maps").c_str(), R_OK) != 0 && errno == EACCES) return info.st_uid != user;
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(process + "/fd", problem)) {
    std::error_code gone;
    held.push_back(fs::read_symlink(entry.path(), gone));
  }
  if (problem == std::errc::permission_denied) return info.st_uid != user;
  held.push_back(fs::read_symlink(process + "/cwd", problem));
  const std::string maps = read_proc(pid, "maps");
  for (size_t at = 0; at < maps.size();) {
    const size_t end = std::min(maps.find('\n', at), maps.size());
    if (const size_t path = maps.find('/', at); path < end) held.push_back(maps.substr(path, end - path));
    at = end + 1;
  }
  return true;
}

struct Held {
  std::vector<std::string> paths;
  bool mpi = false;  // a process of an MPI job lives
};
// None: a process of ours does not let us look, so that anything may be in use.
std::optional<Held> held_by_the_living(unsigned user) {
  Held out;
  for (const pid_t pid : all_processes()) {
    if (!add_held(pid, user, out.paths)) return std::nullopt;
    out.mpi = out.mpi || !job_process(pid, read_proc(pid, "environ"), "").rank.empty();
  }
  std::sort(out.paths.begin(), out.paths.end());
  out.paths.erase(std::unique(out.paths.begin(), out.paths.end()), out.paths.end());
  return out;
}

bool lives(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

void remove(const std::string& path, std::vector<std::string>& removed) {
  std::error_code problem;
  if (fs::remove_all(path, problem) > 0 && !problem) removed.push_back(path);
}

}  // namespace

std::string job_folder_path(const Places& places) {
  const bool shared = access(places.shared_memory.c_str(), W_OK | X_OK) == 0;
  const std::string status = read_proc(getpid(), "stat");
  std::string start;  // field 22; fields are counted from behind the name, which may hold anything
  size_t at = status.rfind(')') + 2;
  for (int field = 3; field < 22; ++field) at = status.find(' ', at) + 1;
  start = status.substr(at, status.find(' ', at) - at);
  return text(shared ? places.shared_memory : places.temporary, "/", our_prefix(places), getpid(), ".",
              start);
}

JobFolder::JobFolder(const std::string& path) : path_(path) {
  const auto fail = [&](const char* what) -> IoError {
    return IoError("cannot ", what, " the folder ", path,
                   " for the job's shared memory: ", system_error_text(errno),
                   "; check rights and room there");
  };
  if (mkdir(path.c_str(), 0700) != 0) throw fail("make");
  Descriptor folder(path);
  if (!folder.is_open() || !folder.lock()) throw fail("lock");
  lock_ = folder.release();
}

JobFolder::~JobFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  close(lock_);
}

int session_owner(const std::string& name) {
  int owner = 0;
  if (!name.starts_with("pid.")) return 0;
  const auto [stop, problem] = std::from_chars(name.data() + 4, name.data() + name.size(), owner);
  return problem == std::errc() && stop == name.data() + name.size() ? owner : 0;
}

bool in_use(const std::string& path, const std::vector<std::string>& used) {
  return std::any_of(used.begin(), used.end(), [&](const std::string& one) {
    return one.starts_with(path) && (one.size() == path.size() || one[path.size()] == '/');
  });
}

std::vector<std::string> remove_leftovers(const Places& places) {
  // First the candidates, then what the living hold: a file that appears later is no candidate.
  std::vector<std::string> ours = entries(places.shared_memory, our_prefix(places), places.user);
  const std::vector<std::string> more = entries(places.temporary, our_prefix(places), places.user);
  ours.insert(ours.end(), more.begin(), more.end());
  const auto segments = entries(places.shared_memory, "vader_segment." + places.host + ".", places.user);
  const std::string all_sessions = text(places.temporary, "/ompi.", places.host, ".", places.user);
  const auto sessions = entries(all_sessions, "", places.user);
  std::vector<std::string> removed;
  if (ours.empty() && segments.empty() && sessions.empty()) return removed;
  const std::optional<Held> held = held_by_the_living(places.user);
  if (!held) return removed;
  for (const std::string& folder : ours) {
    const Descriptor descriptor(folder);
    if (descriptor.is_open() && descriptor.lock() && !in_use(folder, held->paths)) remove(folder, removed);
  }
  for (const std::string& segment : segments)
    if (!in_use(segment, held->paths)) remove(segment, removed);
  for (const std::string& session : sessions) {
    const int owner = session_owner(fs::path(session).filename());
    if (owner != 0 ? lives(owner) : held->mpi) continue;
    if (!in_use(session, held->paths)) remove(session, removed);
  }
  rmdir(all_sessions.c_str());  // where it is empty now
  return removed;
}

}  // namespace lab
