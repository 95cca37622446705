#pragma once
// An exponential moving average of the weights.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lab {

// After each optimizer step the average moves towards the weights by the share 1 - decay; after the first one
// it is the weights, as in torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn. Of parameters that
// are trained; buffers, as BatchNorm's running statistics, stay the model's own.
struct Ema {
  double decay = 0.999;
  bool warmup = false;    // a decay that grows up to that one, as timm's ModelEmaV3 with use_warmup
  bool validate = false;  // validation, and so what is monitored, is of the average
};

// Of update 1, 2, ...: min(decay, 1 - update^(-2/3)) with warm-up, which is timm's with its own gamma and
// power; 0 for the first one.
double ema_decay(const Ema& ema, int64_t update);

// The average of one flat tensor. Deterministic, and each element by itself: its bits don't depend on what
// else is in the tensor, nor on the device. Never communicates. One thread.
class WeightAverage {
 public:
  // `average`: 1-D, as long as the weights, for this to write into. Begins as the weights.
  WeightAverage(const Ema& ema, at::Tensor average, const at::Tensor& weights);
  const at::Tensor& values() const { return average_; }
  void begin(const at::Tensor& weights) { average_.copy_(weights); }
  // After optimizer step `update`. Where `skip` (scalar tensor; undefined: 0) is 1, which is looked at on the
  // device, it stays as it is.
  void update(const at::Tensor& weights, const at::Tensor& skip, int64_t update);
  // Each gets what the other one was.
  void exchange(at::Tensor& weights);

 private:
  Ema ema_;
  at::Tensor average_, room_;
};

}  // namespace lab
