#pragma once
// What ranks can do together. Few operations, and every backend can do all of them.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "lab/core/dtype.h"
#include "lab/core/error.h"

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

// Where buffers may live: from Communicator::allocate(). Lives until its last copy is gone, also beyond the
// communicator; each rank gives its own back when it likes.
struct BufferMemory {
  std::shared_ptr<std::byte> data;  // at a multiple of 64 bytes
  int64_t bytes = 0;
  bool shared = false;  // the ranks of a node see each other's
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

// Another rank of the group has ended with an error of its own, and is not coming any more: resign().
class PeerResigned : public Error {
 public:
  explicit PeerResigned(int rank)
      : Error(ExitCode::bug, text("rank ", rank, " has ended with an error of its own")) {}
};

// A group of ranks. Collectives must be called by all ranks of the group, in the same order, with buffers of
// the same count and type; they return when the result is in the buffer. They throw IoError when the
// transport fails, and Disagreement where it shows that ranks call different ones; after that the group
// cannot be used.
//
// nccl: what lies in a GPU's memory goes by NCCL, and the result is there for whatever the compute stream is
// given next; of submitted work (but for an exchange) when it was waited for. The caller is never held, and
// so an error may be thrown by a later call. Everything else goes by the host's group.
//
// Threads: one at a time. Either work submitted to the lane calls collectives, or, when all of it was waited
// for, the thread that owns the communicator does.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* name() const = 0;  // "self", "mpi", "shared memory"

  // u8, i64, f32 and f64. Every rank ends with the same bits.
  virtual void all_reduce(Buffer buffer, ReduceOp op) = 0;
  // Sums of f32 that travel between nodes as bf16, in half the bytes: of n nodes each rounds what its ranks
  // have together, these are added up as f32, and the sum is rounded once more. An element is then off by at
  // most (n + 1) 2^-8 of the sum of its magnitudes; NaN and infinities stay. On one node nothing is rounded;
  // mpi, which does not know nodes, takes each rank for one. Every rank ends with the same bits.
  virtual void all_reduce_bf16(Buffer sums) = 0;
  virtual void broadcast(Buffer buffer, int root) = 0;
  // `all` is size() parts of equal count, one after the other; part r is filled by rank r and read by
  // everyone.
  virtual void all_gather(Buffer all) = 0;
  // Sends and receives between pairs, all in flight at once. Messages between two ranks match in the order
  // given, and in size. Every rank must call, also one without messages.
  virtual void exchange(std::span<const Message> sends, std::span<const Message> receives) = 0;
  virtual void barrier() = 0;

  // So much memory for each rank, the same on all of them; zeros. Buffers that lie in it on every rank are
  // reduced in place, without a copy (they lie in it on all ranks or on none). Where the ranks of a node
  // cannot share so much it is plain memory, on all ranks alike, and nothing else changes. Collective.
  virtual BufferMemory allocate(int64_t bytes) = 0;
  // The buffers of all ranks, as they are seen from here: the outer index is the rank. Each rank may give
  // another number of them, all of one count and type. When it returns, all ranks have called; until the
  // barrier() that must follow, each may read all and write what no other rank uses. Nothing, on every rank
  // alike, where they are not on one node, or not all buffers lie in memory of one allocate(). Collective.
  virtual std::vector<std::vector<Buffer>> view(std::span<const Buffer> mine) = 0;

  // Runs `work` between now and the end of its ticket's wait(), in the order of submission: behind the
  // caller's back where that waits for a link, on the thread that waits where it would only take that
  // thread's core.
  virtual Ticket submit(std::function<void()> work) = 0;

  // Instead of a next collective: this rank has an error that the others can't know of, or has just caught
  // PeerResigned. Each of them throws that at its own next collective, and has to resign too, so that all of
  // the group's messages come to their end; until then this waits. After it the group can't be used. nccl:
  // who waits for a GPU is not reached.
  virtual void resign() = 0;
};

// Memory that no other rank sees: what allocate() gives where none is shared.
BufferMemory plain_memory(int64_t bytes);

// A group of one: every operation is what it would be among many, and costs nothing. `allocate` gives its
// memory.
std::unique_ptr<Communicator> self_communicator(BufferMemory (*allocate)(int64_t) = plain_memory);

}  // namespace lab
