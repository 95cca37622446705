#pragma once
// The files that a launcher makes for a job: a folder that is the job's own and goes with it, and the search
// for what earlier launchers left when they were killed.

#include <string>
#include <vector>

namespace lab {

// Where such files lie. `temporary` is TMPDIR or /tmp.
struct Places {
  std::string shared_memory = "/dev/shm";
  std::string temporary = "/tmp";
  std::string host;   // as Open MPI writes it into names
  unsigned user = 0;  // whose files
  // What is younger is left alone: its maker may not have locked, opened or mapped it yet.
  int newborn_seconds = 2;
};

// The name of this process's folder: in shared memory, or in the temporary place where that is not writable.
std::string job_folder_path(const Places& places);

// A folder of this process for one start; removed with everything in it by the destructor. It is locked while
// we live, which is how others know. Not copyable.
class JobFolder {
 public:
  explicit JobFolder(const std::string& path);  // throws IoError
  JobFolder(const JobFolder&) = delete;
  JobFolder& operator=(const JobFolder&) = delete;
  ~JobFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int lock_ = -1;
};

// Removes what dead launchers of this user left on this machine: folders of ours that nobody holds, Open
// MPI's session folders whose mpirun is gone, and its shared memory segments. What a living process has open
// or mapped stays, and so do newborns. Returns what was removed. Never throws.
std::vector<std::string> remove_leftovers(const Places& places);

// The parts, for tests. A session folder's owner by its name: pid.N is made by the mpirun with that process
// id; 0 for any other name.
int session_owner(const std::string& name);
// One of the lines or paths in `used` lies at `path` or below it.
bool in_use(const std::string& path, const std::vector<std::string>& used);

}  // namespace lab
