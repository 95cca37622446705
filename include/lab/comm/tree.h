#pragma once
// Sums in one fixed binary tree: the same bits for any number of ranks.
//
// V leaves (V a power of two), numbered 0 to V - 1; node (level, index) is the sum of leaves [index << level,
// (index + 1) << level), made by adding its two halves. Rank r of N holds the leaves of shard(V, r, N), so it
// can make every node that lies wholly within them by itself; the rest is made together.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"

namespace lab {

struct TreeNode {
  int level = 0;
  int64_t index = 0;
  int64_t first() const { return index << level; }
  int64_t end() const { return (index + 1) << level; }
  bool operator==(const TreeNode&) const = default;
};

// The fewest nodes whose leaves are exactly [first, first + count), from left to right.
std::vector<TreeNode> tree_cover(int64_t first, int64_t count);

// partials[i] holds the sum of node i of this rank's cover; all of the same count, f32 or f64. Afterwards
// partials[0] holds the sum over all leaves, on every rank. The other partials are left as they were. Every
// rank must call. With nccl they lie in memory of allocate(). `scratch` is such memory, the same on every
// rank; it is grown as needed and may be kept for the next call.
void tree_all_reduce(Communicator& comm, int64_t leaves, std::span<const Buffer> partials,
                     BufferMemory& scratch);

// The same sums without communication, part by part, of buffers that Communicator::view() showed.
class SeenSum {
 public:
  // leaves 0: of each rank's first buffer, if it gave any, in the order of the ranks, as all_reduce() on one
  // node adds them. The buffers must outlive it.
  SeenSum(std::vector<std::vector<Buffer>> seen, int64_t leaves);
  ~SeenSum();
  SeenSum(const SeenSum&) = delete;
  SeenSum& operator=(const SeenSum&) = delete;
  // `to`, of part.count elements, becomes the sum of that part. It may be that part of this rank's first
  // buffer, and `own` then is where its numbers are, if they are elsewhere; not with leaves.
  void write(Range part, const Buffer& to, const void* own = nullptr);

 private:
  struct Tree;
  std::vector<std::vector<Buffer>> seen_;
  std::vector<Buffer> parts_;
  std::unique_ptr<Tree> tree_;  // null: in the order of the ranks
};

}  // namespace lab
