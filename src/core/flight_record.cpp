#include "lab/core/flight_record.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <new>

#include "core/flight_format.h"
#include "lab/core/error.h"
#include "lab/core/process.h"

namespace lab {
namespace {

using detail::flight_file_bytes, detail::FlightHead, detail::FlightSlot;

constexpr auto relaxed = std::memory_order_relaxed;

template <class T>
void store(T& place, T value, std::memory_order order = relaxed) {
  std::atomic_ref(place).store(value, order);
}

// Nothing before it is stored after it, and nothing behind it before. (The thread sanitizer knows no fences.)
void store_between(int64_t& place, int64_t value) {
  std::atomic_ref(place).exchange(value, std::memory_order_acq_rel);
}

int64_t nanoseconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// All blocks of the file. A store to a page without room on the disk is a SIGBUS.
void reserve(int fd) {
  // File systems that write changes elsewhere (btrfs) want new blocks for old ones all the same.
  int flags = 0;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
    flags |= FS_NOCOW_FL;
    ioctl(fd, FS_IOC_SETFLAGS, &flags);  // most others know no such flag
  }
  int problem = EINTR;
  while (problem == EINTR) problem = posix_fallocate(fd, 0, flight_file_bytes);
  if (problem != 0) throw IoError(system_error_text(problem));
}

void* reserved_and_mapped(int fd) {
  reserve(fd);
  void* memory = mmap(nullptr, flight_file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) throw IoError(system_error_text(errno));
  return memory;
}

// The memory of a new file of that size.
void* map_new_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) throw IoError("cannot make ", path, ": ", system_error_text(errno));
  try {
    void* memory = reserved_and_mapped(fd);
    close(fd);
    return memory;
  } catch (const IoError& e) {
    close(fd);
    unlink(path.c_str());
    throw IoError("cannot make ", path, ": ", e.what());
  }
}

}  // namespace

FlightRecord::FlightRecord(const std::string& path, int rank, int ranks) {
  void* memory = map_new_file(path);
  head_ = new (memory) FlightHead;
  head_->slots = static_cast<int32_t>(detail::flight_slots);
  head_->slot_bytes = static_cast<int32_t>(sizeof(FlightSlot));
  head_->rank = rank;
  head_->ranks = ranks;
  head_->pid = getpid();
  head_->wall_clock = nanoseconds(CLOCK_REALTIME);
  head_->monotonic_clock = nanoseconds(CLOCK_MONOTONIC);
  const std::string host = host_name();
  std::copy_n(host.begin(), std::min(host.size(), head_->host.size()), head_->host.begin());
  store_between(head_->announced, 0);
  head_->magic = detail::flight_magic;
}

FlightRecord::~FlightRecord() { munmap(head_, flight_file_bytes); }

FlightSlot& FlightRecord::slot(int64_t sequence) const {
  auto* slots = reinterpret_cast<FlightSlot*>(head_ + 1);
  return slots[sequence % detail::flight_slots];
}

void FlightRecord::begin(const CollectiveCall& call) {
  FlightSlot& slot = this->slot(call.sequence);
  store(head_->announced, call.sequence);
  store_between(slot.sequence, 0);
  slot.step = call.step;
  slot.bytes = call.bytes;
  slot.began = call.began;
  slot.ended = 0;
  slot.kind = static_cast<uint8_t>(call.kind);
  slot.type = static_cast<uint8_t>(call.type);
  slot.phase = static_cast<uint8_t>(call.phase);
  slot.purpose = Errand::of_this_thread();
  store(slot.sequence, call.sequence, std::memory_order_release);
}

void FlightRecord::end(int64_t sequence, int64_t time) { store(slot(sequence).ended, time); }

void FlightRecord::lost(int rank) { store(head_->lost, int32_t{rank + 1}); }

void FlightRecord::left(Leaving how, int exit_code) {
  store(head_->exit_code, int32_t{exit_code});
  store(head_->leaving, static_cast<int32_t>(how), std::memory_order_release);
}

}  // namespace lab
