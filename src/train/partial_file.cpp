#include "train/partial_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "lab/core/error.h"

namespace lab::detail {

PartialFile::PartialFile(const std::string& path) : path_(path), name_(path + ".partial") {
  fd_ = open(name_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail("open it");
}

PartialFile::~PartialFile() {
  if (fd_ >= 0) close(fd_);
  if (!placed_) unlink(name_.c_str());
}

void PartialFile::write(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd_, bytes.data(), std::min(bytes.size(), size_t{1} << 30));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) fail("write to it");
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
}

void PartialFile::sync() {
  if (fsync(fd_) != 0) fail("bring it to the disk");
}

void PartialFile::compare(size_t offset, Bytes expected, const std::string& what) {
  buffer_.resize(size_t{4} << 20);
  for (size_t done = 0; done < expected.size();) {
    const size_t wanted = std::min(buffer_.size(), expected.size() - done);
    const ssize_t got = pread(fd_, buffer_.data(), wanted, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read it back");
    if (got == 0 || std::memcmp(buffer_.data(), expected.data() + done, static_cast<size_t>(got)) != 0)
      throw IoError("what was written to ", lab::quoted(path_), " reads back differently (", what,
                    "); the file there before is untouched; check this disk, or write to another one");
    done += static_cast<size_t>(got);
  }
}

void PartialFile::put_in_place() {
  if (rename(name_.c_str(), path_.c_str()) != 0) fail("give it its name");
  placed_ = true;
  const auto folder = std::filesystem::path(path_).parent_path();
  const int directory = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;  // a folder that may be written to but not read: the rename stands all the same
  const bool synced = fsync(directory) == 0 || errno == EINVAL || errno == ENOTSUP;  // some cannot
  const int problem = errno;
  close(directory);
  errno = problem;
  if (!synced) fail("bring its name to the disk");
}

void PartialFile::fail(const char* what) {
  throw IoError("cannot write ", lab::quoted(path_), " (could not ", what, "): ", system_error_text(errno),
                "; the file there before is untouched; check rights and free space of that folder");
}

}  // namespace lab::detail
