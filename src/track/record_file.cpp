#include "track/record_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "lab/core/error.h"

namespace lab::detail {
namespace {
constexpr size_t most_pending = size_t{16} << 20;
}

RecordFile::RecordFile(std::string path, Log log, int64_t keep_bytes)
    : path_(std::move(path)), log_(std::move(log)) {
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0)
    throw IoError("cannot write ", path_, ": ", system_error_text(errno),
                  "; check that its folder is there and may be written to");
  end_ = lseek(fd_, 0, SEEK_END);
  const bool seekable = end_ >= 0;
  if (seekable) end_ = std::min(end_, keep_bytes);
  if (!seekable || ftruncate(fd_, end_) != 0) {
    const int problem = errno;
    close(fd_);
    throw IoError("cannot append to ", path_, ": ", system_error_text(problem), "; is it a regular file?");
  }
}

RecordFile::~RecordFile() {
  flush();
  if (dropped_ + pending_.size() > 0)
    log_.warn(path_, " lacks the last ", byte_size(dropped_ + pending_.size()),
              " of the records: the disk had no room for them");
  close(fd_);
}

void RecordFile::append(std::string_view record) {
  if (pending_.size() + record.size() > most_pending) flush();
  if (pending_.size() + record.size() > most_pending) {
    dropped_ += record.size();
    return;
  }
  pending_ += record;
  flush();
}

void RecordFile::flush() {
  if (pending_.empty()) return;
  if (write_pending()) {
    end_ += static_cast<int64_t>(pending_.size());
    pending_.clear();
    return;
  }
  const int problem = errno;
  if (ftruncate(fd_, end_) != 0) {
    // The next try writes over the same place, so the half record goes then.
  }
  if (!std::exchange(said_, true))
    log_.warn("cannot write ", path_, ": ", system_error_text(problem),
              "; the run goes on, records wait in memory; make room on that disk");
}

void RecordFile::sync() const { fdatasync(fd_); }

bool RecordFile::write_pending() {
  for (size_t done = 0; done < pending_.size();) {
    const ssize_t wrote =
        pwrite(fd_, pending_.data() + done, pending_.size() - done, end_ + static_cast<int64_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    done += static_cast<size_t>(wrote);
  }
  return true;
}

}  // namespace lab::detail
