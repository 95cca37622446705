#include "comm/node.h"

#include <new>

#include "lab/comm/lane.h"

namespace lab {

// Two cache lines, since some processors fetch them in pairs.
struct alignas(128) Node::Place {
  TurnCounter turns;
  std::array<Call, 2> calls;
};

size_t Node::offset_of_slots(int ranks) {
  const size_t places = sizeof(Place) * static_cast<size_t>(ranks);
  return (places + 4095) / 4096 * 4096 + 2 * slot_bytes;
}

size_t Node::bytes(int ranks) { return offset_of_slots(ranks) + 2 * slot_bytes * static_cast<size_t>(ranks); }

void Node::prepare(SharedSegment& memory, int ranks) {
  memory.reserve(0, offset_of_slots(ranks));
  for (int r = 0; r < ranks; ++r) new (memory.data() + sizeof(Place) * static_cast<size_t>(r)) Place;
}

void Node::reserve(SharedSegment& memory, int rank, int ranks) {
  memory.reserve(offset_of_slots(ranks) + 2 * slot_bytes * static_cast<size_t>(rank), 2 * slot_bytes);
}

Node::Node(std::shared_ptr<SharedSegment> memory, int rank, std::vector<int> names, int cores)
    : memory_(std::move(memory)),
      rank_(rank),
      names_(std::move(names)),
      patience_(Patience::of(size(), cores)) {}

Node::Place& Node::place(int rank) const {
  return *std::launder(reinterpret_cast<Place*>(memory_->data()) + rank);
}

std::byte* Node::board_at(uint32_t turn) const {
  return memory_->data() + offset_of_slots(size()) - slot_bytes * (1 + turn % 2);
}

std::byte* Node::slot_at(int rank, uint32_t turn) const {
  return memory_->data() + offset_of_slots(size()) + slot_bytes * (2 * rank + turn % 2);
}

void Node::come(const Call& call) {
  turn_ += 1;
  Place& mine = place(rank_);
  mine.calls[turn_ % 2] = call;
  mine.turns.advance();
}

void Node::resign() { come(resignation()); }

void Node::meet(const Call& call) {
  come(call);
  const Patience patience = in_lane() ? Patience::of_lane() : patience_;
  for (int step = 1; step < size(); ++step)  // not all look at the same rank first
    place((rank_ + step) % size()).turns.await(turn_, patience);
  for (int other = 0; other < size(); ++other)
    if (place(other).calls[turn_ % 2] == resignation()) throw PeerResigned(name(other));
  for (int other = 0; other < size(); ++other)
    if (const Call& theirs = place(other).calls[turn_ % 2]; theirs != call)
      throw disagreement(name(other), in_words(theirs), name(rank_), in_words(call));
}

}  // namespace lab
