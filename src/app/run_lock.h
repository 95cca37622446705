#pragma once
// One writer per run folder.

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace lab {

// Held by rank 0 as long as this lives; the kernel lets go of it when the process ends in whatever way. For
// file systems whose locks do not reach other nodes, the file says who holds it, and a thread keeps it young.
class RunLock {
 public:
  // Waits a few seconds for a process that is about to end. Throws UsageError when another process holds the
  // lock: host, pid and since when. `same_job`: whoever held it on another node was an earlier start of this
  // job, and is dead.
  RunLock(const std::string& folder, bool same_job);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

  // Whether some process holds the lock of this folder.
  static bool is_held(const std::string& folder);

 private:
  int fd_ = -1;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread keeper_;
};

}  // namespace lab
