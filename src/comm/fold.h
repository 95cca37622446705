#pragma once
// Element-wise reductions of the ranks' buffers, in the order of the ranks.

#include <cstdint>
#include <span>

#include "lab/comm/communicator.h"

namespace lab {

// Each of `out` becomes in[0] op in[1] op ..., element by element and from left to right, so the bits depend
// on the order of `in` alone. Buffers of one count and type (u8, i64, f32, f64); one may be in both lists,
// else they do not overlap. Reads and writes each element once.
void fold(ReduceOp op, std::span<const Buffer> in, std::span<const Buffer> out);

// into = left + right, of f32 or f64. `into` may be `left`.
void add(const Buffer& into, const Buffer& left, const Buffer& right);

}  // namespace lab
