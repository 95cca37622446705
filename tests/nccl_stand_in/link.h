#pragma once
// How the stand-in's ranks reach each other: memory that processes (or threads) share, in which they meet.

#include <atomic>
#include <cstdint>
#include <memory>

#include "lab/core/shared_segment.h"

namespace stand_in {

// What a rank launches; all ranks must launch the same.
struct Description {
  int64_t kind = 0, type = 0, op = 0, root = 0, count = 0, number = 0;
  bool operator==(const Description&) const = default;
};

constexpr int most_ranks = 8;
constexpr size_t slot_bytes = 1 << 20, mail_bytes = 64 << 10;

struct Mail {
  std::atomic<size_t> bytes;    // 0: empty
  std::atomic<uint64_t> whole;  // of the message that it is of
  std::byte data[mail_bytes];
};

struct Place {
  alignas(64) std::atomic<uint64_t> turn;
  std::atomic<int32_t> pid;
  Description description;
  alignas(64) std::byte slot[slot_bytes];
  Mail mail[most_ranks];  // from this rank
};

struct Board {
  std::atomic<int32_t> ranks, aborted;
  Place places[most_ranks];
};

class Link {
 public:
  Link(std::shared_ptr<lab::SharedSegment> memory, int rank, int ranks)
      : memory_(std::move(memory)), rank_(rank), ranks_(ranks) {}
  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  Board& board() const { return *reinterpret_cast<Board*>(memory_->data()); }
  Place& own() const { return board().places[rank_]; }
  Place& place(int rank) const { return board().places[rank]; }

  // Each returns false when the others can't be met any more: one has aborted, or is gone.
  bool meet();
  // Polls until `ready` says yes.
  template <class Ready>
  bool poll(const Ready& ready) const {
    for (int round = 0; !ready(); ++round) {
      if (!others_live()) return ready();
      pause(round);
    }
    return true;
  }
  void abort() const { board().aborted = 1; }

 private:
  bool others_live() const;
  static void pause(int round);
  std::shared_ptr<lab::SharedSegment> memory_;
  int rank_, ranks_;
  uint64_t turn_ = 0;
};

}  // namespace stand_in
