#include "lab/comm/tree.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lab/core/error.h"
#include "lab/core/range.h"

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

template <class T>
void add(T* __restrict into, const T* __restrict from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) into[i] += from[i];
}

void add(const Buffer& into, const Buffer& from) {
  if (into.type == DType::f32)
    add(static_cast<float*>(into.data), static_cast<const float*>(from.data), into.count);
  else if (into.type == DType::f64)
    add(static_cast<double*>(into.data), static_cast<const double*>(from.data), into.count);
  else
    throw Bug("a tree sum of ", name_of(into.type));
}

// A slice may be empty where there are more ranks than elements.
void copy(const Buffer& to, const Buffer& from) {
  if (to.count > 0) std::memcpy(to.data, from.data, static_cast<size_t>(to.bytes()));
}

// One rank's part of the elements, for every node that some rank could make alone.
struct Known {
  TreeNode node;
  Buffer buffer;
};

// Makes the sum of `node` in the buffer of its leftmost known node and returns that.
Buffer combine(TreeNode node, std::span<const Known> known) {
  for (const auto& k : known)
    if (k.node == node) return k.buffer;
  if (node.level == 0) throw Bug("leaf ", node.index, " of a tree sum belongs to no rank");
  const Buffer left = combine({node.level - 1, node.index * 2}, known);
  const Buffer right = combine({node.level - 1, node.index * 2 + 1}, known);
  add(left, right);
  return left;
}

}  // namespace

void tree_all_reduce(Communicator& comm, int64_t leaves, std::span<const Buffer> partials,
                     std::vector<std::byte>& scratch) {
  const int ranks = comm.size(), me = comm.rank();
  const Buffer whole = partials.front();
  if (whole.count == 0 || (ranks == 1 && partials.size() == 1)) return;
  const Range mine = shard(whole.count, me, ranks);

  // Every rank sums one slice of the elements: bring that slice of all ranks' nodes here.
  int64_t nodes = 0;
  for (int r = 0; r < ranks; ++r) {
    const Range held = shard(leaves, r, ranks);
    nodes += static_cast<int64_t>(tree_cover(held.first, held.count).size());
  }
  const int64_t stride = (mine.count * size_of(whole.type) + 63) / 64 * 64;
  scratch.resize(std::max(scratch.size(), static_cast<size_t>(nodes * stride)));
  std::vector<Known> known;
  std::vector<Message> sends, receives;
  for (int r = 0; r < ranks; ++r) {
    const Range held = shard(leaves, r, ranks);
    for (const TreeNode node : tree_cover(held.first, held.count)) {
      known.push_back(
          {node, {scratch.data() + static_cast<int64_t>(known.size()) * stride, mine.count, whole.type}});
      if (r != me) receives.push_back({r, known.back().buffer});
    }
    const Range theirs = shard(whole.count, r, ranks);
    for (const Buffer& partial : partials)
      if (r != me) sends.push_back({r, partial.slice(theirs.first, theirs.count)});
  }
  size_t own = 0;
  const Range held = shard(leaves, me, ranks);
  for (const auto& k : known)
    if (k.node.first() >= held.first && k.node.end() <= held.end())
      copy(k.buffer, partials[own++].slice(mine.first, mine.count));
  comm.exchange(sends, receives);

  const TreeNode root{log2_floor(leaves), 0};
  const Buffer sum = combine(root, known);
  copy(whole.slice(mine.first, mine.count), sum);

  sends.clear();
  receives.clear();
  for (int r = 0; r < ranks; ++r) {
    if (r == me) continue;
    const Range theirs = shard(whole.count, r, ranks);
    sends.push_back({r, whole.slice(mine.first, mine.count)});
    receives.push_back({r, whole.slice(theirs.first, theirs.count)});
  }
  comm.exchange(sends, receives);
}

}  // namespace lab
