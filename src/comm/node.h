#pragma once
// The ranks of one node, and how they meet in memory that they share.
//
// A collective is a row of meetings. Before each one a rank writes into its slot; when all have come, each
// may read all slots until it goes to the next meeting. There are two slots per rank, used in turn, and two
// boards for all, so one meeting per piece of data is enough: who writes slot or board of meeting k + 2 has
// been at meeting k + 1, and so have all others, who then had read those of meeting k.

#include <array>
#include <memory>
#include <vector>

#include "comm/call.h"
#include "comm/waiting.h"
#include "lab/core/shared_segment.h"

namespace lab {

// Not for several threads at a time. Every rank must come to every meeting.
class Node {
 public:
  static constexpr int64_t slot_bytes = 1 << 18;

  // The memory of such a node. It is zeros before the first rank of the node calls prepare(), which it does
  // before the others have it; then each rank reserves its part.
  static size_t bytes(int ranks);
  static void prepare(SharedSegment& memory, int ranks);
  static void reserve(SharedSegment& memory, int rank, int ranks);

  // Ranks count within the node; names[r] is what rank r is called in messages. `cores`: as many as the
  // ranks of the node may use together.
  Node(std::shared_ptr<SharedSegment> memory, int rank, std::vector<int> names, int cores);

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(names_.size()); }
  int name(int rank) const { return names_[static_cast<size_t>(rank)]; }

  // slot_bytes each, at a multiple of 64 bytes. own_slot() and next_board() are for the next meeting; slot()
  // and board() are as they were at the last one. A board's bytes are written by one rank each.
  std::byte* own_slot() const { return slot_at(rank_, turn_ + 1); }
  const std::byte* slot(int rank) const { return slot_at(rank, turn_); }
  std::byte* next_board() const { return board_at(turn_ + 1); }
  const std::byte* board() const { return board_at(turn_); }

  // Throws, on every rank, Disagreement where not all came for the same, PeerResigned where one resigned.
  void meet(const Call& call);
  // This rank comes to the next meeting, and to none after it; it waits for nobody.
  void resign();

 private:
  struct Place;
  static size_t offset_of_slots(int ranks);
  Place& place(int rank) const;
  void come(const Call& call);
  std::byte* board_at(uint32_t turn) const;
  std::byte* slot_at(int rank, uint32_t turn) const;
  std::shared_ptr<SharedSegment> memory_;
  int rank_ = 0;
  std::vector<int> names_;
  Patience patience_;
  uint32_t turn_ = TurnCounter::none_yet;
};

}  // namespace lab
