#pragma once
// What a rank calls a collective for, so that ranks which call different ones can be told so.

#include <cstdint>
#include <string>

#include "lab/comm/communicator.h"
#include "lab/core/error.h"
#include "lab/core/heartbeat.h"

namespace lab {

// The same on all ranks. Of an exchange the kind alone counts, as its messages differ.
struct Call {
  Collective kind = Collective::barrier;
  DType type = DType::u8;
  ReduceOp op = ReduceOp::sum;
  int32_t root = 0;
  int64_t count = 0;  // elements
  bool operator==(const Call&) const = default;
};

// What a rank comes for that resigns.
constexpr Call resignation() { return {.kind = Collective::none}; }

// "all-reduce (sum) of 12 f32"
std::string in_words(const Call& call);

// For rank `mine` to throw: rank `theirs` is somewhere else. Both in words.
Disagreement disagreement(int theirs, const std::string& their_place, int mine, const std::string& my_place);

}  // namespace lab
