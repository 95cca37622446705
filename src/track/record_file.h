#pragma once
// A file that grows by whole records, whatever the disk does.

#include <cstdint>
#include <string>
#include <string_view>

#include "lab/core/log.h"

namespace lab::detail {

// Owns its file descriptor; for one thread. A record that was appended is in the file in full, or not at all:
// a reader that met half a record would lose everything behind it.
class RecordFile {
 public:
  // Opens for appending behind the first `keep_bytes`; what is there behind them goes. A missing file is
  // made. Throws IoError.
  RecordFile(std::string path, Log log, int64_t keep_bytes = 0);
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  bool empty() const { return end_ == 0 && pending_.empty(); }

  // Never throws. What cannot be written now waits in memory for the next call; beyond 16 MiB records are
  // dropped. The first failure is said in the log, and at the end how much was never written.
  void append(std::string_view record);
  void flush();
  void sync() const;  // to the disk; from any thread

 private:
  bool write_pending();

  std::string path_;
  Log log_;
  int fd_ = -1;
  int64_t end_ = 0;      // of the last whole record in the file
  std::string pending_;  // whole records
  uint64_t dropped_ = 0;
  bool said_ = false;
};

}  // namespace lab::detail
