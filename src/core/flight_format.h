#pragma once
// How a flight record lies in its file: a head, and a ring of slots. In the byte order of the machine.

#include <array>
#include <cstdint>
#include <type_traits>

#include "lab/core/errand.h"

namespace lab::detail {

constexpr std::array<char, 8> flight_magic = {'l', 'a', 'b', ' ', 'f', 'r', '1', '\n'};
constexpr int64_t flight_slots = 4096;

struct alignas(64) FlightHead {
  std::array<char, 8> magic{};  // written last
  int32_t slots = 0, slot_bytes = 0;
  int32_t rank = 0, ranks = 0, pid = 0;
  int32_t leaving = 0, exit_code = 0;           // as of Heartbeat
  int32_t lost = 0;                             // 1 + the rank that this one's watchdog found lost; 0: none
  int64_t announced = 0;                        // the newest sequence number, before its slot is touched
  int64_t wall_clock = 0, monotonic_clock = 0;  // nanoseconds of both clocks at one moment
  std::array<char, 64> host{};
};

// Collective n is in slot n % slots. A slot is whole when `sequence` is what it should be: it is cleared
// before the rest is written, and set behind it.
struct alignas(64) FlightSlot {
  int64_t sequence = 0;
  int64_t step = 0, bytes = 0;
  int64_t began = 0, ended = 0;  // nanoseconds of the monotonic clock; ended 0: not yet
  uint8_t kind = 0, type = 0, phase = 0, unused = 0;
  ErrandText purpose;
};

constexpr size_t flight_file_bytes = sizeof(FlightHead) + sizeof(FlightSlot) * flight_slots;
static_assert(sizeof(FlightHead) == 128 && sizeof(FlightSlot) == 64);
static_assert(std::is_trivially_copyable_v<FlightHead> && std::is_trivially_copyable_v<FlightSlot>);

}  // namespace lab::detail
