#include "lab/comm/tree.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "comm/fold.h"
#include "lab/core/error.h"
#include "lab/core/range.h"
#include "lab/device/stream.h"

namespace lab {
namespace {

int log2_floor(int64_t n) { return static_cast<int>(std::bit_width(static_cast<uint64_t>(n))) - 1; }

}  // namespace

std::vector<TreeNode> tree_cover(int64_t first, int64_t count) {
  std::vector<TreeNode> cover;
  while (count > 0) {
    const auto unsigned_first = static_cast<uint64_t>(first);
    const int aligned = first == 0 ? 62 : std::countr_zero(unsigned_first);
    const int level = std::min(aligned, log2_floor(count));
    cover.push_back({level, first >> level});
    first += int64_t{1} << level;
    count -= int64_t{1} << level;
  }
  return cover;
}

namespace {

constexpr int64_t block_bytes = 8192;  // a few of them stay in the nearest cache

// On this processor, or on the GPU that the buffers lie on.
struct Arithmetic {
  bool gpu = false;

  // A slice may be empty where there are more ranks than elements.
  void copy(const Buffer& to, const Buffer& from) const {
    if (to.count == 0) return;
    if (gpu)
      copy_on_device(to.data, from.data, to.bytes());
    else
      std::memcpy(to.data, from.data, static_cast<size_t>(to.bytes()));
  }
  void sum(const Buffer& into, const Buffer& left, const Buffer& right) const {
    if (gpu)
      add_on_device(into.data, left.data, right.data, into.count, into.type);
    else
      add(into, left, right);
  }
};

// One rank's part of the elements, for every node that some rank could make alone.
struct Known {
  TreeNode node;
  Buffer buffer;
};

// Adds up in tree order, block by block, and leaves what it reads as it is.
class SliceSum {
 public:
  SliceSum(int64_t leaves, std::vector<Known> known)
      : root_{log2_floor(leaves), 0},
        known_(std::move(known)),
        own_room_(static_cast<size_t>(blocks(leaves) * block_bytes)),
        room_(own_room_.data()) {}
  // On a GPU, with blocks(leaves) blocks of its memory.
  SliceSum(int64_t leaves, std::vector<Known> known, std::byte* room, int64_t bytes_of_block)
      : root_{log2_floor(leaves), 0},
        known_(std::move(known)),
        room_(room),
        block_(bytes_of_block),
        here_{true} {}

  static int64_t blocks(int64_t leaves) { return log2_floor(leaves) + 1; }

  // Each of `out` becomes the sum of so many elements of the known, which it may be among.
  void write(std::span<const Buffer> out, int64_t from = 0) {
    const Buffer& like = out.front();
    const int64_t most = block_ / size_of(like.type);
    for (int64_t first = 0; first < like.count; first += most) {
      const Range part{from + first, std::min(most, like.count - first)};
      const Buffer sum = combine(root_, part, block(root_.level, part.count, like.type));
      for (const Buffer& buffer : out) here_.copy(buffer.slice(first, part.count), sum);
    }
  }

 private:
  Buffer block(int level, int64_t count, DType type) { return {room_ + level * block_, count, type}; }

  // The part's sum of the node: where it is known, or in `space`. The levels below the node have a block each
  // for their right halves; left ones go where the sum goes.
  Buffer combine(TreeNode node, Range part, const Buffer& space) {
    for (const auto& k : known_)
      if (k.node == node) return k.buffer.slice(part.first, part.count);
    if (node.level == 0) throw Bug("leaf ", node.index, " of a tree sum belongs to no rank");
    const Buffer left = combine({node.level - 1, node.index * 2}, part, space);
    const Buffer right =
        combine({node.level - 1, node.index * 2 + 1}, part, block(node.level - 1, space.count, space.type));
    here_.sum(space, left, right);
    return space;
  }

  TreeNode root_;
  std::vector<Known> known_;
  std::vector<std::byte> own_room_;
  std::byte* room_;
  int64_t block_ = block_bytes;
  Arithmetic here_;
};

std::vector<TreeNode> cover_of(int rank, int ranks, int64_t leaves) {
  const Range held = shard(leaves, rank, ranks);
  return tree_cover(held.first, held.count);
}

// All ranks' nodes, where all partial sums lie.
std::vector<Known> known_of(int64_t leaves, std::span<const std::vector<Buffer>> partials) {
  const auto ranks = static_cast<int>(partials.size());
  std::vector<Known> known;
  for (int r = 0; r < ranks; ++r) {
    const auto& theirs = partials[static_cast<size_t>(r)];
    size_t i = 0;
    for (const TreeNode node : cover_of(r, ranks, leaves)) known.push_back({node, theirs.at(i++)});
  }
  return known;
}

// Every rank sums one slice of the elements, and writes it to all ranks.
void sum_in_place(Communicator& comm, int64_t leaves, std::span<const std::vector<Buffer>> partials) {
  const Range mine = shard(partials.front().front().count, comm.rank(), comm.size());
  std::vector<Buffer> out;
  for (const auto& theirs : partials) out.push_back(theirs.front().slice(mine.first, mine.count));
  SliceSum(leaves, known_of(leaves, partials)).write(out, mine.first);
  comm.barrier();
}

// Blocks of memory, each for a slice of the elements.
struct Scratch {
  std::byte* data;
  int64_t stride;
  std::byte* block(int64_t i) const { return data + i * stride; }
};

// One for each node that some rank could make alone, and `more` behind them.
Scratch make_scratch(Communicator& comm, int64_t leaves, const Buffer& whole, int64_t more,
                     BufferMemory& memory) {
  int64_t blocks = more;
  for (int r = 0; r < comm.size(); ++r)
    blocks += static_cast<int64_t>(cover_of(r, comm.size(), leaves).size());
  const int64_t longest = shard(whole.count, 0, comm.size()).count;
  const int64_t stride = (longest * size_of(whole.type) + 63) / 64 * 64;
  if (memory.bytes < blocks * stride) memory = comm.allocate(blocks * stride);
  return {memory.data.get(), stride};
}

// The slice that this rank sums, of all ranks' nodes.
std::vector<Known> bring_slice(Communicator& comm, int64_t leaves, std::span<const Buffer> partials,
                               const Scratch& scratch) {
  const int ranks = comm.size(), me = comm.rank();
  const Buffer whole = partials.front();
  const Range mine = shard(whole.count, me, ranks);
  std::vector<Known> known;
  std::vector<Message> sends, receives;
  for (int r = 0; r < ranks; ++r) {
    size_t i = 0;
    for (const TreeNode node : cover_of(r, ranks, leaves)) {
      const Buffer own = r == me ? partials[i++].slice(mine.first, mine.count) : Buffer{};
      std::byte* place = scratch.block(std::ssize(receives));
      known.push_back({node, r == me ? own : Buffer{place, mine.count, whole.type}});
      if (r != me) receives.push_back({r, known.back().buffer});
    }
    const Range theirs = shard(whole.count, r, ranks);
    for (const Buffer& partial : partials)
      if (r != me) sends.push_back({r, partial.slice(theirs.first, theirs.count)});
  }
  comm.exchange(sends, receives);
  return known;
}

// Each rank's slice of the sum, to all.
void spread_slices(Communicator& comm, const Buffer& whole) {
  std::vector<Message> sends, receives;
  const Range mine = shard(whole.count, comm.rank(), comm.size());
  for (int r = 0; r < comm.size(); ++r) {
    if (r == comm.rank()) continue;
    const Range theirs = shard(whole.count, r, comm.size());
    sends.push_back({r, whole.slice(mine.first, mine.count)});
    receives.push_back({r, whole.slice(theirs.first, theirs.count)});
  }
  comm.exchange(sends, receives);
}

}  // namespace

void tree_all_reduce(Communicator& comm, int64_t leaves, std::span<const Buffer> partials,
                     BufferMemory& scratch) {
  const Buffer whole = partials.front();
  if (whole.count == 0 || (comm.size() == 1 && partials.size() == 1)) return;
  if (const auto seen = comm.view(partials); !seen.empty()) return sum_in_place(comm, leaves, seen);
  const Range mine = shard(whole.count, comm.rank(), comm.size());
  const Buffer sum = whole.slice(mine.first, mine.count);
  // On a GPU a block is the whole slice: what a launch costs does not depend on how much it adds up.
  const bool gpu = on_device(whole.data);
  const int64_t more = gpu ? SliceSum::blocks(leaves) : 0;
  const Scratch blocks = make_scratch(comm, leaves, whole, more, scratch);
  auto known = bring_slice(comm, leaves, partials, blocks);
  const auto behind = std::ssize(known);
  SliceSum adder = gpu ? SliceSum(leaves, std::move(known), blocks.block(behind), blocks.stride)
                       : SliceSum(leaves, std::move(known));
  adder.write({&sum, 1});
  spread_slices(comm, whole);
}

struct SeenSum::Tree {
  SliceSum sum;
};

SeenSum::SeenSum(std::vector<std::vector<Buffer>> seen, int64_t leaves) : seen_(std::move(seen)) {
  if (leaves > 0) tree_ = std::make_unique<Tree>(Tree{SliceSum(leaves, known_of(leaves, seen_))});
}

SeenSum::~SeenSum() = default;

void SeenSum::write(Range part, const Buffer& to, const void* own) {
  if (tree_) return tree_->sum.write({&to, 1}, part.first);
  parts_.clear();
  for (const auto& theirs : seen_) {
    if (theirs.empty()) continue;
    parts_.push_back(theirs.front().slice(part.first, part.count));
    if (own != nullptr && parts_.back().data == to.data) parts_.back().data = const_cast<void*>(own);
  }
  if (parts_.size() > 1 || parts_.front().data != to.data) fold(ReduceOp::sum, parts_, {&to, 1});
}

}  // namespace lab
