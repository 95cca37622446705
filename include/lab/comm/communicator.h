#pragma once
// What ranks can do together. Few operations, and every backend can do all of them.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <span>

#include "lab/core/dtype.h"

namespace lab {

// Elements in memory that a collective works on in place. Not owned; must outlive the operation.
struct Buffer {
  void* data = nullptr;
  int64_t count = 0;  // elements
  DType type = DType::f32;
  int64_t bytes() const { return count * size_of(type); }
  Buffer slice(int64_t first, int64_t n) const {
    return {static_cast<std::byte*>(data) + first * size_of(type), n, type};
  }
};

enum class ReduceOp { sum, min, max };

struct Message {
  int peer = 0;
  Buffer buffer;
};

// Work handed to a communicator's lane. wait() rethrows what the work threw. Waiting twice is allowed.
class Ticket {
 public:
  Ticket() = default;
  explicit Ticket(std::shared_future<void> done) : done_(std::move(done)) {}
  void wait() const {
    if (done_.valid()) done_.get();
  }

 private:
  std::shared_future<void> done_;
};

// A group of ranks. Collectives must be called by all ranks of the group, in the same order, with buffers of
// the same count and type; they return when the result is in the buffer. They throw IoError when the
// transport fails, after which the group cannot be used.
//
// Threads: one at a time. Either work submitted to the lane calls collectives, or, when all of it was waited
// for, the thread that owns the communicator does.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* name() const = 0;  // "self", "mpi"

  // u8, i64, f32 and f64. Every rank ends with the same bits.
  virtual void all_reduce(Buffer buffer, ReduceOp op) = 0;
  virtual void broadcast(Buffer buffer, int root) = 0;
  // `all` is size() parts of equal count, one after the other; part r is filled by rank r and read by
  // everyone.
  virtual void all_gather(Buffer all) = 0;
  // Sends and receives between pairs, all in flight at once. Messages between two ranks match in the order
  // given.
  virtual void exchange(std::span<const Message> sends, std::span<const Message> receives) = 0;
  virtual void barrier() = 0;

  // Runs `work` behind the caller's back, in the order of submission; a group of one runs it at once.
  virtual Ticket submit(std::function<void()> work) = 0;
};

// A group of one: every operation is what it would be among many, and costs nothing.
std::unique_ptr<Communicator> self_communicator();

}  // namespace lab
