#include "comm/node_memory.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "lab/core/error.h"

namespace lab {
namespace {

constexpr int64_t outside = -1;  // of all allocations
constexpr size_t spots_at = 16;  // in a slot; the first ones are in the cache line of their count

std::shared_ptr<SharedSegment> unless_refused(const std::function<std::shared_ptr<SharedSegment>()>& make) {
  try {
    return make();
  } catch (const Unavailable&) {
    return nullptr;
  }
}

template <class T>
T read(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

std::optional<BufferMemory> NodeMemory::allocate(int64_t bytes) {
  const Call call{.kind = Collective::allocate, .count = bytes};
  const size_t stride = (static_cast<size_t>(bytes) + 4095) / 4096 * 4096;
  const size_t whole = stride * static_cast<size_t>(node_.size()),
               own = stride * static_cast<size_t>(node_.rank());
  std::shared_ptr<SharedSegment> segment;
  if (node_.rank() == 0) {
    segment = unless_refused([&] { return SharedSegment::make(whole); });
    const SegmentAddress address = segment ? segment->address() : SegmentAddress{};
    std::memcpy(node_.own_slot(), &address, sizeof address);
  }
  node_.meet(call);
  if (node_.rank() != 0) {
    const auto address = read<SegmentAddress>(node_.slot(0));
    segment = unless_refused([&] { return SharedSegment::open(address, whole); });
  }
  // Each rank reserves its own stretch, which the system then puts near its core.
  segment = unless_refused([&] {
    if (segment) segment->reserve(own, stride);
    return segment;
  });
  const bool good = segment != nullptr;
  std::memcpy(node_.own_slot(), &good, sizeof good);
  node_.meet(call);
  for (int r = 0; r < node_.size(); ++r)
    if (!read<bool>(node_.slot(r))) return std::nullopt;
  segment->close();
  std::erase_if(allocations_, [](const Allocation& a) { return a.segment.expired(); });
  allocations_.push_back({made_++, stride, segment});
  return BufferMemory{{segment, segment->data() + own}, bytes, true};
}

NodeMemory::Spot NodeMemory::spot_of(const Buffer& buffer) const {
  const auto at = reinterpret_cast<uintptr_t>(buffer.data);
  for (const auto& allocation : allocations_) {
    const auto segment = allocation.segment.lock();
    if (!segment) continue;
    const auto first =
        reinterpret_cast<uintptr_t>(segment->data()) + allocation.stride * static_cast<size_t>(node_.rank());
    if (at >= first && at + static_cast<size_t>(buffer.bytes()) <= first + allocation.stride)
      return {allocation.number, static_cast<int64_t>(at - first)};
  }
  return {outside, 0};
}

// Each rank's slot: how many buffers, then the spot of each.
NodeMemory::Seen NodeMemory::look(const Call& call, std::span<const Buffer> mine) {
  std::byte* slot = node_.own_slot();
  if (mine.size() * sizeof(Spot) + spots_at > Node::slot_bytes)
    throw Bug("a view of ", mine.size(), " buffers");
  const size_t count = mine.size();
  std::memcpy(slot, &count, sizeof count);
  for (size_t i = 0; i < count; ++i) {
    const Spot spot = spot_of(mine[i]);
    std::memcpy(slot + spots_at + i * sizeof spot, &spot, sizeof spot);
  }
  node_.meet(call);

  // Where each rank has a buffer in the allocation, none has given it back.
  const auto number = read<Spot>(node_.slot(0) + spots_at).allocation;
  const auto allocation = std::ranges::find(allocations_, number, &Allocation::number);
  const auto segment = allocation == allocations_.end() ? nullptr : allocation->segment.lock();
  if (!segment) return {};
  seen_.clear();
  counts_.clear();
  for (int r = 0; r < node_.size(); ++r) {
    counts_.push_back(read<size_t>(node_.slot(r)));
    if (counts_.back() == 0) return {};
    for (size_t i = 0; i < counts_.back(); ++i) {
      const auto spot = read<Spot>(node_.slot(r) + spots_at + i * sizeof(Spot));
      if (spot.allocation != number) return {};
      std::byte* data = segment->data() + allocation->stride * static_cast<size_t>(r) + spot.offset;
      seen_.push_back({data, call.count, call.type});
    }
  }
  return {seen_, counts_};
}

}  // namespace lab
