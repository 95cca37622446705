#include "lab/launch/leftovers.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <utility>

#include "lab/core/error.h"
#include "lab/core/other_process.h"
#include "lab/launch/processes.h"

namespace lab {
namespace {

namespace fs = std::filesystem;

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
std::vector<std::string> entries(const std::string& folder, const std::string& prefix, const Places& places) {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    struct stat info {};
    if (!entry.path().filename().string().starts_with(prefix)) continue;
    if (lstat(entry.path().c_str(), &info) != 0 || info.st_uid != places.user || S_ISLNK(info.st_mode))
      continue;
    if (std::time(nullptr) - info.st_ctim.tv_sec > places.newborn_seconds) out.push_back(entry.path());
  }
  return out;
}

// What a process has open or mapped; nothing where it has ended or does not let us look, as those do that may
// do more than we may: launchers and ranks of ours do.
void add_held(pid_t pid, std::vector<std::string>& held) {
  const std::string process = text("/proc/", pid);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(process + "/fd", ignored)) {
    std::error_code gone;
    held.push_back(fs::read_symlink(entry.path(), gone));
  }
  held.push_back(fs::read_symlink(process + "/cwd", ignored));
  const std::string maps = read_proc(pid, "maps");
  for (size_t at = 0; at < maps.size();) {
    const size_t end = std::min(maps.find('\n', at), maps.size());
    if (const size_t path = maps.find('/', at); path < end) held.push_back(maps.substr(path, end - path));
    at = end + 1;
  }
}

std::vector<std::string> held_by_the_living() {
  std::vector<std::string> out;
  for (const pid_t pid : all_processes()) add_held(pid, out);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

bool runs_mpi(const std::vector<std::string>& held) {
  return std::any_of(held.begin(), held.end(),
                     [](const std::string& path) { return path.find("/libmpi.so") != std::string::npos; });
}

// The process of this id lives and is what makes such folders, not another one that was given the id since.
bool is_launcher(pid_t pid) {
  const std::string name = read_proc(pid, "comm");
  const auto known = {"mpirun", "mpiexec", "orterun", "oshrun", "orted"};
  return std::any_of(known.begin(), known.end(), [&](const char* one) { return name.starts_with(one); });
}

void remove(const std::string& path, std::vector<std::string>& removed) {
  std::error_code problem;
  if (fs::remove_all(path, problem) > 0 && !problem) removed.push_back(path);
}

}  // namespace

std::string job_folder_path(const Places& places) {
  const bool shared = access(places.shared_memory.c_str(), W_OK | X_OK) == 0;
  const auto stat = process_stat(getpid());
  return text(shared ? places.shared_memory : places.temporary, "/", our_prefix(places), getpid(), ".",
              stat ? stat->born : 0);
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
  std::vector<std::string> ours = entries(places.shared_memory, our_prefix(places), places);
  const std::vector<std::string> more = entries(places.temporary, our_prefix(places), places);
  ours.insert(ours.end(), more.begin(), more.end());
  const auto segments = entries(places.shared_memory, "vader_segment." + places.host + ".", places);
  const std::string all_sessions = text(places.temporary, "/ompi.", places.host, ".", places.user);
  const auto sessions = entries(all_sessions, "", places);
  std::vector<std::string> removed;
  if (ours.empty() && segments.empty() && sessions.empty()) return removed;
  const std::vector<std::string> held = held_by_the_living();
  for (const std::string& folder : ours) {
    const Descriptor descriptor(folder);
    if (descriptor.is_open() && descriptor.lock() && !in_use(folder, held)) remove(folder, removed);
  }
  for (const std::string& segment : segments)
    if (!in_use(segment, held)) remove(segment, removed);
  for (const std::string& session : sessions) {
    const int owner = session_owner(fs::path(session).filename());
    if (owner != 0 ? is_launcher(owner) : runs_mpi(held)) continue;
    if (!in_use(session, held)) remove(session, removed);
  }
  rmdir(all_sessions.c_str());  // where it is empty now
  return removed;
}

}  // namespace lab
