#pragma once
// Messages between the ranks of a node, carried in slots: each meeting takes as much as fits.

#include <cstdint>
#include <span>
#include <vector>

#include "lab/comm/communicator.h"

namespace lab {

// What a rank has to send. The messages must outlive it.
class Outbox {
 public:
  explicit Outbox(std::span<const Message> sends) : sends_(sends) {}
  // Puts the next parcels into the slot.
  void fill(std::byte* slot, int64_t slot_bytes);

 private:
  int64_t copy_next(std::byte* to, int64_t room);
  std::span<const Message> sends_;
  size_t message_ = 0;
  int64_t sent_ = 0;  // bytes of that message
};

// What a rank waits for.
class Inbox {
 public:
  Inbox(std::span<const Message> receives, int rank, int ranks);
  // Takes what is for this rank out of rank `from`'s slot; returns whether `from` has more to send, to
  // anyone. Throws Disagreement when more comes than is waited for.
  bool take(int from, const std::byte* slot);
  bool complete() const;  // everything has come

 private:
  struct Line {
    std::vector<Buffer> buffers;
    size_t buffer = 0;
    int64_t filled = 0;  // bytes of that buffer
  };
  void deliver(Line& line, int from, const std::byte* data, int64_t bytes) const;
  int rank_;
  std::vector<Line> lines_;  // by sender
};

}  // namespace lab
