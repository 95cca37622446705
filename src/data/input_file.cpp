#include "data/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "lab/core/error.h"

namespace lab::detail {

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not make us wait
  if (descriptor_ < 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      throw InputNotFound("the data file ", quoted(path_),
                          " is not there; check the path (it is relative to the current folder)");
    throw IoError("cannot open the data file ", quoted(path_), ": ", system_error_text(errno));
  }
  struct stat info {};
  if (fstat(descriptor_, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(descriptor_);
    throw DataError(quoted(path_), S_ISDIR(info.st_mode) ? " is a folder" : " is not a file on a disk",
                    "; name an HDF5 file");
  }
  size_ = static_cast<uint64_t>(info.st_size);
}

InputFile::~InputFile() { close(descriptor_); }

void InputFile::read(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      throw IoError("cannot read ", bytes.size(), " bytes at offset ", offset, " of ", path_, ": ",
                    system_error_text(errno));
    if (got == 0)
      throw DataError(
          path_, " ends at byte ", offset, ", where ", bytes.size(),
          " more were expected; it was changed since it was opened: leave data files alone during a run");
    offset += static_cast<uint64_t>(got);
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

}  // namespace lab::detail
