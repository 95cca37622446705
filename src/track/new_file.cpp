#include "track/new_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "lab/core/text.h"

namespace lab::detail {

NewFile::NewFile(const std::string& path) : path_(path), partial_(text(path, ".partial-", getpid())) {
  fd_ = open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) problem_ = errno;
}

NewFile::~NewFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(partial_.c_str());
}

bool NewFile::append(std::string_view bytes) {
  while (!problem_ && !bytes.empty()) {
    const ssize_t wrote = write(fd_, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0)
      problem_ = errno;
    else
      bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return !problem_;
}

bool NewFile::finish() {
  if (!problem_ && fsync(fd_) != 0) problem_ = errno;
  return finish_at_once();
}

bool NewFile::finish_at_once() {
  if (!problem_ && rename(partial_.c_str(), path_.c_str()) != 0) problem_ = errno;
  return !problem_;
}

}  // namespace lab::detail
