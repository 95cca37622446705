#pragma once
// A process that outlives us for a moment: when lab_run is killed, it ends what is left of the job and
// removes its folder.

#include <sys/types.h>

#include <string>

namespace lab {

// Forks in the constructor, before the job's first process. The child waits for us to be gone, which it sees
// on a pipe; done() tells it that there is nothing to do. Without done() the destructor lets it sweep, and
// waits for it. The process must have no other threads. Not copyable.
class Sweeper {
 public:
  Sweeper(const std::string& run_id, const std::string& folder);  // throws IoError
  Sweeper(const Sweeper&) = delete;
  Sweeper& operator=(const Sweeper&) = delete;
  ~Sweeper();
  void done();

 private:
  int pipe_ = -1;
  pid_t child_ = 0;
};

}  // namespace lab
