#include "lab/core/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "lab/core/error.h"

namespace lab {
namespace {

constexpr const char* no_memory = "shared memory of ";

// A file beyond this limit would not be an error but a signal.
bool within_file_size_limit(size_t bytes) {
  rlimit limit{};
  return getrlimit(RLIMIT_FSIZE, &limit) != 0 || bytes <= limit.rlim_cur;
}

uint64_t random_token() {
  uint64_t token = 0;
  if (getrandom(&token, sizeof token, GRND_NONBLOCK) == sizeof token) return token;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

// Takes the descriptor; -1: memory of this process and its children.
SharedSegment::SharedSegment(int fd, size_t bytes) : bytes_(bytes), fd_(fd), shared_(fd >= 0) {
  const int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
  void* memory = mmap(nullptr, head_bytes + bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  const int problem = errno;
  if (memory != MAP_FAILED) {
    memory_ = static_cast<std::byte*>(memory);
    return;
  }
  close();
  if (!shared_) throw std::bad_alloc();
  throw Unavailable(no_memory, byte_size(bytes), " cannot be mapped: ", system_error_text(problem));
}

SharedSegment::~SharedSegment() {
  close();
  munmap(memory_, head_bytes + bytes_);
}

std::shared_ptr<SharedSegment> SharedSegment::make(size_t bytes) {
  const size_t whole = head_bytes + bytes;
  if (!within_file_size_limit(whole))
    throw Unavailable(no_memory, byte_size(bytes), " is beyond this process's limit for files (ulimit -f)");
  const int fd = memfd_create("lab-shared", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(whole)) != 0) {
    const int problem = errno;
    if (fd >= 0) ::close(fd);
    throw Unavailable(no_memory, byte_size(bytes), " was refused: ", system_error_text(problem));
  }
  std::shared_ptr<SharedSegment> segment(new SharedSegment(fd, bytes));
  segment->reserve(0, 0);  // of the head at least
  segment->token() = random_token();
  return segment;
}

std::shared_ptr<SharedSegment> SharedSegment::open(const SegmentAddress& address, size_t bytes) {
  const std::string path = text("/proc/", address.pid, "/fd/", address.fd);
  const int fd = address.fd < 0 ? -1 : ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    throw Unavailable("the shared memory of process ", address.pid,
                      " cannot be opened: ", address.fd < 0 ? "it has none" : system_error_text(errno),
                      "; do all ranks of this node run as one user, in one container?");
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
      static_cast<size_t>(info.st_size) != head_bytes + bytes) {
    ::close(fd);
    throw Unavailable(path, " is not the shared memory that was looked for");
  }
  std::shared_ptr<SharedSegment> segment(new SharedSegment(fd, bytes));
  // In a container of its own, a process of that number is another one.
  if (segment->token() != address.token)
    throw Unavailable(path,
                      " is the shared memory of another job; does each rank run in a container of its own?");
  return segment;
}

std::shared_ptr<SharedSegment> SharedSegment::make_private(size_t bytes) {
  return std::shared_ptr<SharedSegment>(new SharedSegment(-1, bytes));
}

SegmentAddress SharedSegment::address() const { return {getpid(), fd_, shared_ ? token() : 0}; }

void SharedSegment::reserve(size_t first, size_t count) const {
  const size_t start = first == 0 ? 0 : head_bytes + first;  // the head goes with the first stretch
  const size_t length = head_bytes + first + count - start;
  int problem = EINTR;
  while (problem == EINTR)
    problem = fallocate(fd_, 0, static_cast<off_t>(start), static_cast<off_t>(length)) == 0 ? 0 : errno;
  if (problem != 0 && problem != EOPNOTSUPP)
    throw Unavailable("no memory left for ", byte_size(count),
                      " that ranks share: ", system_error_text(problem));
}

void SharedSegment::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

uint64_t& SharedSegment::token() const { return *reinterpret_cast<uint64_t*>(memory_); }

}  // namespace lab
