#pragma once
// Makes means of a step's sums of gradients, and says what they are like: finite, and how long.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"
#include "lab/train/step_plan.h"

namespace lab {

// Where a chunk's sums are and where its means go, of f32 or f64: it must be one place, or two without
// overlap.
struct GradientChunk {
  const void* sums;
  Buffer means;
};

// Takes gradients chunk by chunk, while they are in the nearest cache. The norm adds up the chunks'
// squares in their order, so its bits do not depend on who took which. One thread.
class GradientMeans {
 public:
  // Of so many elements. norm: that too, not only whether they are finite.
  GradientMeans(int64_t elements, bool norm)
      : squares_(norm ? static_cast<size_t>((elements + part_unit - 1) / part_unit) : 0) {}

  // chunk(Range) gives each GradientChunk of the part, whose sums are divided by the weight. The part begins
  // at a chunk. From the end on: that is what backward has just written, and what the optimizer then begins
  // with is still in the cache.
  template <class Chunk>
  void each_chunk(Range part, double weight, const Chunk& chunk) {
    for (int64_t i = (part.count + part_unit - 1) / part_unit; i-- > 0;) {
      const int64_t first = part.first + i * part_unit;
      take(first / part_unit, weight, chunk(Range{first, std::min(part_unit, part.end() - first)}));
    }
  }

  // Where each rank took another part: what all of them found. Collective.
  void add_others(Communicator& comm);

  bool finite() const { return not_finite_ == 0; }
  double norm() const;

 private:
  void take(int64_t index, double weight, const GradientChunk& chunk);
  double not_finite_ = 0;  // chunks
  std::vector<double> squares_;
};

// The same on a device, which the host does not wait for: divides the sums (1-D) by the weight (a scalar),
// and returns their norm, a scalar of f64 that is finite when all of them are.
at::Tensor make_means(at::Tensor sums, const at::Tensor& weight);

}  // namespace lab
