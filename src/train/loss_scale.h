#pragma once
// The factor that lifts losses so that gradients of 16-bit floats do not vanish.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "lab/train/loss.h"

namespace lab {

// As torch.amp.GradScaler (Micikevicius et al., "Mixed precision training", 2018, section 3.2): halved after
// a step whose gradients overflow, doubled after 2000 in a row whose do not. A power of two, so that nothing
// else is rounded. As backward runs on sums, not means, it begins at 2^16 over the samples of a batch. All on
// the device; the same on every rank, as steps are skipped on all. One thread.
class LossScale {
 public:
  LossScale(int64_t batch_size, at::Device device);
  // Sum and weight alike, so that the mean is as it was.
  WeightedSum scaled(const WeightedSum& loss) const;
  // skip: a scalar of f32, 1 when the step's sums are not finite, else 0.
  void update(const at::Tensor& skip);

  // For checkpoints: 1-D, the factor and the steps in a row.
  at::Tensor state() const;
  void restore(const at::Tensor& state);

 private:
  at::Tensor scale_;    // (1) of f32
  at::Tensor growing_;  // (1) of i32: steps in a row without overflow
};

}  // namespace lab
