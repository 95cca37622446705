#pragma once
// A file that appears under its name only when it is complete.

#include <string>
#include <string_view>

namespace lab::detail {

// The file under a temporary name of this process, which is gone again unless finish() gave it its own. Does
// not throw: what went wrong first is problem(), and after that nothing more is done. One thread.
class NewFile {
 public:
  explicit NewFile(const std::string& path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // Both return whether all went well so far.
  bool append(std::string_view bytes);
  bool finish();                            // brings it to the disk first
  bool finish_at_once();                    // a loss of power may take it, but nobody waits for the disk
  int problem() const { return problem_; }  // an errno; 0: none

 private:
  std::string path_, partial_;
  int fd_ = -1;
  int problem_ = 0;
};

}  // namespace lab::detail
