#pragma once
// Memory in which the ranks of a node see each other's buffers.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "comm/node.h"

namespace lab {

// All functions are meetings, or rows of them, of all ranks of the node.
class NodeMemory {
 public:
  // `node` must outlive it.
  explicit NodeMemory(Node& node) : node_(node) {}

  // A stretch for each rank, of the same size; none, on all ranks alike, where the system refuses it.
  std::optional<BufferMemory> allocate(int64_t bytes);

  // All ranks' buffers, one rank's after the other's, as they are seen from here; none, on all ranks alike,
  // where not all lie in one allocation. counts[r]: how many rank r gave. Valid until the next call of this.
  struct Seen {
    std::span<const Buffer> buffers;
    std::span<const size_t> counts;
  };
  Seen look(const Call& call, std::span<const Buffer> mine);

 private:
  struct Allocation {
    int64_t number;  // the same on all ranks
    size_t stride;
    std::weak_ptr<SharedSegment> segment;
  };
  struct Spot {
    int64_t allocation, offset;
  };
  Spot spot_of(const Buffer& buffer) const;
  Node& node_;
  int64_t made_ = 0;
  std::vector<Allocation> allocations_;
  std::vector<Buffer> seen_;
  std::vector<size_t> counts_;
};

}  // namespace lab
