#pragma once
// Memory that the processes of a node share. It has no name in any file system, so nothing of it can be left
// behind, whatever its processes die of.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace lab {

// By what the node's other processes find it; plain bytes, to be sent to them.
struct SegmentAddress {
  int32_t pid = 0, fd = -1;
  uint64_t token = 0;
};

class SharedSegment {
 public:
  // Zeros. Throws Unavailable where this system refuses shared memory of this size.
  static std::shared_ptr<SharedSegment> make(size_t bytes);
  // What another process has made and not closed yet. Throws Unavailable when there is none at the address,
  // or not of this size.
  static std::shared_ptr<SharedSegment> open(const SegmentAddress& address, size_t bytes);
  // The same for this process and its later children alone. Throws bad_alloc.
  static std::shared_ptr<SharedSegment> make_private(size_t bytes);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  std::byte* data() const { return memory_ + head_bytes; }  // at a multiple of 4096
  size_t bytes() const { return bytes_; }
  bool shared() const { return shared_; }

  // While it is not closed. reserve() takes the memory of a stretch from the system now, near the core that
  // asks for it; a process that is the first to write where no memory is left would be killed. Throws
  // Unavailable.
  SegmentAddress address() const;
  void reserve(size_t first, size_t count) const;
  void close();  // nobody else is going to open it; the memory itself stays

 private:
  static constexpr size_t head_bytes = 4096;
  SharedSegment(int fd, size_t bytes);
  uint64_t& token() const;
  std::byte* memory_ = nullptr;
  size_t bytes_ = 0;
  int fd_ = -1;
  bool shared_ = false;
};

}  // namespace lab
