#include "comm/shared.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "comm/fold.h"
#include "comm/node.h"
#include "comm/node_memory.h"
#include "comm/parcels.h"
#include "lab/comm/agreement.h"
#include "lab/comm/lane.h"
#include "lab/core/cores.h"
#include "lab/core/range.h"

namespace lab {
namespace {

constexpr int64_t small_bytes = 4096;  // every rank adds up so much by itself, after one meeting
constexpr int64_t line_bytes = 64;     // slices begin at cache lines
constexpr int64_t least_slice_bytes = 4096;

void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

std::byte* bytes_of(const Buffer& buffer) { return static_cast<std::byte*>(buffer.data); }

// Between the nodes; nothing of it where there is only one.
struct Between {
  std::unique_ptr<Communicator> all;    // every rank of the job
  std::unique_ptr<Communicator> likes;  // the ranks that take the same slice; null for those that take none
};

class Shared final : public Communicator {
 public:
  Shared(int rank, int size, Node node, Between between, int slices)
      : rank_(rank), size_(size), node_(std::move(node)), between_(std::move(between)), slices_(slices) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return between_.all ? "shared memory and mpi" : "shared memory"; }

  void all_reduce(Buffer buffer, ReduceOp op) override { reduce(buffer, op, Collective::all_reduce); }
  void all_reduce_bf16(Buffer sums) override { reduce(sums, ReduceOp::sum, Collective::all_reduce_bf16); }

  void broadcast(Buffer buffer, int root) override {
    if (between_.all) return between_.all->broadcast(buffer, root);
    const Call call{Collective::broadcast, buffer.type, {}, root, buffer.count};
    for_pieces(buffer.bytes(), [&](int64_t first, int64_t n) {
      if (rank_ == root) copy_bytes(node_.own_slot(), bytes_of(buffer) + first, n);
      node_.meet(call);
      if (rank_ != root) copy_bytes(bytes_of(buffer) + first, node_.slot(root), n);
    });
  }

  void all_gather(Buffer all) override {
    if (between_.all) return between_.all->all_gather(all);
    const Call call{Collective::all_gather, all.type, {}, 0, all.count};
    const int64_t part = all.bytes() / size_;
    for_pieces(part, [&](int64_t first, int64_t n) {
      copy_bytes(node_.own_slot(), bytes_of(all) + rank_ * part + first, n);
      node_.meet(call);
      for (int r = 0; r < size_; ++r)
        if (r != rank_) copy_bytes(bytes_of(all) + r * part + first, node_.slot(r), n);
    });
  }

  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    if (between_.all) return between_.all->exchange(sends, receives);
    Outbox outbox(sends);
    Inbox inbox(receives, rank_, size_);
    for (bool more = true; more;) {
      outbox.fill(node_.own_slot(), Node::slot_bytes);
      node_.meet({.kind = Collective::exchange});
      more = false;
      for (int r = 0; r < size_; ++r)
        if (inbox.take(r, node_.slot(r))) more = true;
    }
    if (!inbox.complete()) throw Disagreement("rank ", rank_, " waits for more than the others send to it");
  }

  void barrier() override {
    if (between_.all) return between_.all->barrier();
    node_.meet({.kind = Collective::barrier});
  }

  BufferMemory allocate(int64_t bytes) override {
    auto memory = memory_.allocate(bytes);
    int64_t good = memory.has_value();
    if (between_.all) between_.all->all_reduce({&good, 1, DType::i64}, ReduceOp::min);
    return good ? *memory : plain_memory(bytes);
  }

  std::vector<std::vector<Buffer>> view(std::span<const Buffer> mine) override {
    if (between_.all) return {};
    const Buffer like = mine.empty() ? Buffer{} : mine.front();
    const auto seen = memory_.look({Collective::view, like.type, {}, 0, like.count}, mine);
    std::vector<std::vector<Buffer>> out;
    auto next = seen.buffers.begin();
    for (const size_t count : seen.counts) {
      const auto first = next;
      next += static_cast<std::ptrdiff_t>(count);
      out.emplace_back(first, next);
    }
    return out;
  }

  // All at once: the others may wait at any of these meetings, and come to the next one only from there.
  void resign() override {
    node_.resign();
    if (!between_.all) return;
    lane_.drain();
    std::future<void> likes;
    if (between_.likes) likes = std::async(std::launch::async, [this] { between_.likes->resign(); });
    between_.all->resign();
    if (likes.valid()) likes.get();
  }

  // Between nodes there is a link to wait for; within one there is only work.
  Ticket submit(std::function<void()> work) override {
    return between_.all ? lane_.submit(std::move(work)) : deferred_.submit(std::move(work));
  }

 private:
  // piece(first, n) for stretches that a slot holds, at least once.
  template <class Piece>
  static void for_pieces(int64_t bytes, const Piece& piece) {
    int64_t first = 0;
    do {
      piece(first, std::min(Node::slot_bytes, bytes - first));
      first += Node::slot_bytes;
    } while (first < bytes);
  }

  // The elements that this rank adds up, of so many.
  Range slice(int64_t count, DType type) const {
    const int64_t bytes = count * size_of(type), per_line = line_bytes / size_of(type);
    const int64_t parts = std::min<int64_t>(slices_, (bytes + least_slice_bytes - 1) / least_slice_bytes);
    if (node_.rank() >= parts) return {};
    const Range lines = shard((count + per_line - 1) / per_line, node_.rank(), parts);
    const int64_t end = std::min(count, lines.end() * per_line);
    return {lines.first * per_line, end - lines.first * per_line};
  }

  std::span<const Buffer> slots(const Call& call, Range part) {
    parts_.clear();
    for (int r = 0; r < node_.size(); ++r)
      parts_.push_back(
          Buffer{const_cast<std::byte*>(node_.slot(r)), call.count, call.type}.slice(part.first, part.count));
    return parts_;
  }

  void reduce(Buffer buffer, ReduceOp op, Collective kind) {
    const Call call{kind, buffer.type, op, 0, buffer.count};
    if (!between_.all && buffer.bytes() <= small_bytes) return reduce_small(buffer, call);
    const auto seen = memory_.look(call, {&buffer, 1});
    if (!seen.buffers.empty())
      reduce_in_place(seen.buffers, call);
    else
      reduce_in_pieces(buffer, call);
  }

  void reduce_small(Buffer buffer, const Call& call) {
    copy_bytes(node_.own_slot(), buffer.data, buffer.bytes());
    node_.meet(call);
    fold(call.op, slots(call, {0, buffer.count}), {&buffer, 1});
  }

  void reduce_in_place(std::span<const Buffer> all, const Call& call) {
    if (const Range part = slice(call.count, call.type); part.count > 0) {
      parts_.clear();
      for (const Buffer& buffer : all) parts_.push_back(buffer.slice(part.first, part.count));
      reduce_slice(call, parts_, parts_);
    }
    node_.meet(call);
  }

  // Leaves in each of `out` what all ranks of all nodes have in their `in`.
  void reduce_slice(const Call& call, std::span<const Buffer> in, std::span<const Buffer> out) {
    if (!between_.likes) return fold(call.op, in, out);
    const Buffer first = out.front();
    fold(call.op, in, {&first, 1});
    if (call.kind == Collective::all_reduce_bf16)
      between_.likes->all_reduce_bf16(first);
    else
      between_.likes->all_reduce(first, call.op);
    for (const Buffer& other : out.subspan(1)) copy_bytes(other.data, first.data, first.bytes());
  }

  // While piece t goes into the slots, t - 1 is added up on a board, and t - 2 taken from the other one: one
  // meeting for each.
  void reduce_in_pieces(Buffer buffer, const Call& call) {
    const int64_t most = Node::slot_bytes / size_of(call.type);
    const int64_t pieces = (buffer.count + most - 1) / most;
    const auto piece = [&](int64_t t) {
      return buffer.slice(t * most, std::min(most, buffer.count - t * most));
    };
    for (int64_t t = 0; t < pieces + 2; ++t) {
      if (t < pieces) copy_bytes(node_.own_slot(), piece(t).data, piece(t).bytes());
      if (t >= 1 && t <= pieces)
        if (const Range part = slice(piece(t - 1).count, call.type); part.count > 0) {
          const Buffer sum = Buffer{node_.next_board(), most, call.type}.slice(part.first, part.count);
          reduce_slice(call, slots(call, part), {&sum, 1});
        }
      if (t >= 2) copy_bytes(piece(t - 2).data, node_.board(), piece(t - 2).bytes());
      if (t <= pieces) node_.meet(call);
    }
  }

  int rank_ = 0, size_ = 1;
  Node node_;
  NodeMemory memory_{node_};
  Between between_;
  int slices_ = 1;
  std::vector<Buffer> parts_;
  Lane lane_;
  Deferred deferred_;
};

// How many cores the ranks of a group on one node may use together.
int cores_of(Communicator& local) {
  std::vector<cpu_set_t> masks(static_cast<size_t>(local.size()));
  masks[static_cast<size_t>(local.rank())] = own_cores();
  local.all_gather({masks.data(), static_cast<int64_t>(masks.size() * sizeof masks[0]), DType::u8});
  cpu_set_t all;
  CPU_ZERO(&all);
  for (const auto& mask : masks) CPU_OR(&all, &all, &mask);
  return std::max(1, CPU_COUNT(&all));
}

// Collective over all ranks of the job: an error on one node is everyone's.
std::shared_ptr<SharedSegment> join_memory(Communicator& all, Communicator& local) {
  const int ranks = local.size();
  std::shared_ptr<SharedSegment> memory;
  SegmentAddress address;
  agree(all, [&] {
    if (local.rank() != 0) return;
    memory = SharedSegment::make(Node::bytes(ranks));
    Node::prepare(*memory, ranks);
    address = memory->address();
  });
  local.broadcast({&address, sizeof address, DType::u8}, 0);
  agree(all, [&] {
    if (local.rank() != 0) memory = SharedSegment::open(address, Node::bytes(ranks));
    Node::reserve(*memory, local.rank(), ranks);
  });
  memory->close();
  return memory;
}

}  // namespace

std::unique_ptr<Communicator> shared_communicator(int node, const Split& split) {
  auto all = split(0);
  const auto local = split(node);
  const int rank = all->rank(), size = all->size();
  auto memory = join_memory(*all, *local);
  std::vector<int64_t> names(static_cast<size_t>(local->size()), rank);
  local->all_gather({names.data(), local->size(), DType::i64});
  Node ours(std::move(memory), local->rank(), {names.begin(), names.end()}, cores_of(*local));
  int64_t slices = local->size();
  all->all_reduce({&slices, 1, DType::i64}, ReduceOp::min);
  Between between;
  int64_t nodes = local->rank() == 0;
  all->all_reduce({&nodes, 1, DType::i64}, ReduceOp::sum);
  if (nodes > 1) {
    between.likes = split(local->rank() < slices ? local->rank() : -1);
    between.all = std::move(all);
  }
  return std::make_unique<Shared>(rank, size, std::move(ours), std::move(between), static_cast<int>(slices));
}

}  // namespace lab
