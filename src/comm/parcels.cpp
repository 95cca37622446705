#include "comm/parcels.h"

#include <algorithm>
#include <cstring>

#include "lab/core/error.h"

namespace lab {
namespace {

// A slot: how many bytes of parcels follow and whether the sender has more; then each parcel's head and
// bytes.
struct SlotHead {
  int64_t bytes = 0;
  int64_t more = 0;
};
struct ParcelHead {
  int64_t to = 0, bytes = 0;
};

int64_t padded(int64_t bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

void Outbox::fill(std::byte* slot, int64_t slot_bytes) {
  constexpr int64_t heads = sizeof(SlotHead);
  int64_t used = 0;
  while (message_ < sends_.size()) {
    const int64_t wrote = copy_next(slot + heads + used, slot_bytes - heads - used);
    if (wrote == 0) break;
    used += wrote;
  }
  const SlotHead head{used, message_ < sends_.size()};
  std::memcpy(slot, &head, sizeof head);
}

// Returns how many bytes of the room it took; 0: nothing fits. A message that is whole makes way for the
// next.
int64_t Outbox::copy_next(std::byte* to, int64_t room) {
  const Message& message = sends_[message_];
  const int64_t space = room - static_cast<int64_t>(sizeof(ParcelHead));
  const int64_t bytes = std::min(message.buffer.bytes() - sent_, space / 8 * 8);
  if (space < 8) return 0;
  const ParcelHead head{message.peer, bytes};
  std::memcpy(to, &head, sizeof head);
  if (bytes > 0)
    std::memcpy(to + sizeof head, static_cast<const std::byte*>(message.buffer.data) + sent_,
                static_cast<size_t>(bytes));
  sent_ += bytes;
  if (sent_ == message.buffer.bytes()) {
    message_ += 1;
    sent_ = 0;
  }
  return static_cast<int64_t>(sizeof head) + padded(bytes);
}

Inbox::Inbox(std::span<const Message> receives, int rank, int ranks)
    : rank_(rank), lines_(static_cast<size_t>(ranks)) {
  for (const auto& [peer, buffer] : receives)
    if (buffer.bytes() > 0) lines_[static_cast<size_t>(peer)].buffers.push_back(buffer);
}

bool Inbox::take(int from, const std::byte* slot) {
  SlotHead head;
  std::memcpy(&head, slot, sizeof head);
  for (int64_t at = 0; at < head.bytes;) {
    ParcelHead parcel;
    const std::byte* here = slot + sizeof head + at;
    std::memcpy(&parcel, here, sizeof parcel);
    if (parcel.to == rank_)
      deliver(lines_[static_cast<size_t>(from)], from, here + sizeof parcel, parcel.bytes);
    at += static_cast<int64_t>(sizeof parcel) + padded(parcel.bytes);
  }
  return head.more != 0;
}

void Inbox::deliver(Line& line, int from, const std::byte* data, int64_t bytes) const {
  while (bytes > 0) {
    if (line.buffer == line.buffers.size())
      throw Disagreement("rank ", from, " sends ", bytes, " bytes to rank ", rank_,
                         " that it does not wait for; all ranks must run the same program");
    const Buffer& buffer = line.buffers[line.buffer];
    const int64_t n = std::min(bytes, buffer.bytes() - line.filled);
    std::memcpy(static_cast<std::byte*>(buffer.data) + line.filled, data, static_cast<size_t>(n));
    data += n;
    bytes -= n;
    line.filled += n;
    if (line.filled < buffer.bytes()) continue;
    line.buffer += 1;
    line.filled = 0;
  }
}

bool Inbox::complete() const {
  return std::ranges::all_of(lines_, [](const Line& line) { return line.buffer == line.buffers.size(); });
}

}  // namespace lab
