#include "lab/train/ema.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace lab {
namespace {

// So many elements are worked on at once: on processors they stay in a cache meanwhile.
int64_t room_for(const at::Tensor& like) {
  return std::min<int64_t>(like.numel(), like.device().is_cpu() ? 1 << 15 : 1 << 24);
}

}  // namespace

double ema_decay(const Ema& ema, int64_t update) {
  if (update <= 1) return 0;
  if (!ema.warmup) return ema.decay;
  return std::min(ema.decay, 1 - std::pow(static_cast<double>(update), -2.0 / 3));
}

WeightAverage::WeightAverage(const Ema& ema, at::Tensor average, const at::Tensor& weights)
    : ema_(ema), average_(std::move(average)), room_(torch::empty({room_for(average_)}, average_.options())) {
  begin(weights);
}

// A subtraction, a product and a sum, each rounded once: a fused operation would round otherwise where a
// vector of the processor ends.
void WeightAverage::update(const at::Tensor& weights, const at::Tensor& skip, int64_t update) {
  const double decay = ema_decay(ema_, update);
  if (decay == 0) return begin(weights);  // those of a step that was skipped are the same as before
  const at::Tensor share = skip.defined() ? (1 - skip.to(average_.scalar_type())) * (1 - decay) : skip;
  for (int64_t first = 0; first < average_.numel(); first += room_.numel()) {
    const int64_t count = std::min(room_.numel(), average_.numel() - first);
    at::Tensor average = average_.narrow(0, first, count), change = room_.narrow(0, 0, count);
    at::sub_out(change, weights.narrow(0, first, count), average);
    share.defined() ? change.mul_(share) : change.mul_(1 - decay);
    average.add_(change);
  }
}

void WeightAverage::exchange(at::Tensor& weights) {
  for (int64_t first = 0; first < average_.numel(); first += room_.numel()) {
    const int64_t count = std::min(room_.numel(), average_.numel() - first);
    at::Tensor average = average_.narrow(0, first, count), own = weights.narrow(0, first, count);
    at::Tensor kept = room_.narrow(0, 0, count);
    kept.copy_(own);
    own.copy_(average);
    average.copy_(kept);
  }
}

}  // namespace lab
