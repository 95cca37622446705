#include "train/slot_sums.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "lab/comm/wide.h"

namespace lab {
namespace {

constexpr int64_t block_bytes = 8192;  // stays in the nearest cache

// Each of `below`, from the last to the first, is added to the sum so far of left and right; the first
// becomes all of it. Without any `place` does.
template <class T>
void add_up(T* place, const T* left, const T* right, std::span<T* const> below, int64_t count) {
  constexpr int64_t most = block_bytes / static_cast<int64_t>(sizeof(T));
  alignas(64) std::array<T, most> sum;
  work_in_wide_vectors([&](auto) {
    for (int64_t first = 0; first < count; first += most) {
      const int64_t n = std::min(most, count - first);
      for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] = left[first + i] + right[first + i];
      for (size_t k = below.size(); k > 0; --k) {
        const T* more = below[k - 1] + first;
        for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] = more[i] + sum[static_cast<size_t>(i)];
      }
      T* to = (below.empty() ? place : below.front()) + first;
      std::copy_n(sum.data(), n, to);
    }
  });
}

// Entry by entry from the top; undefined counts as zeros.
void place(const Placement& where, const std::vector<at::Tensor>& stack, const at::Tensor& leaf) {
  const auto top = static_cast<size_t>(where.depth);
  if (where.merges == 0) {
    if (leaf.defined())
      stack[top].copy_(leaf);
    else
      stack[top].zero_();
    return;
  }
  if (leaf.defined())
    stack[top - 1].add_(leaf);
  else
    stack[top - 1].add_(0.0);  // makes -0 a +0, as adding a sent zero would
  for (size_t k = 2; k <= static_cast<size_t>(where.merges); ++k) stack[top - k].add_(stack[top - k + 1]);
}

}  // namespace

// Whether it is laid out as its places are, in memory that is read as it is.
bool SlotSums::fits(const at::Tensor& gradient) const {
  const at::Tensor& place = places_.front();
  const auto type = place.scalar_type();
  return gradient.defined() && gradient.is_cpu() && gradient.scalar_type() == type &&
         (type == torch::kFloat32 || type == torch::kFloat64) && gradient.strides() == place.strides() &&
         gradient.is_non_overlapping_and_dense();
}

void SlotSums::settle() {
  if (waiting_.defined()) places_[waits_for_].copy_(waiting_);
  waiting_.reset();
}

void SlotSums::add(const Placement& where, const at::Tensor& gradient, bool last) {
  const bool read_as_it_is = fits(gradient);
  const auto top = static_cast<size_t>(where.depth);
  if (where.merges == 0 && read_as_it_is && !last) {
    settle();
    waiting_ = gradient;
    waits_for_ = top;
    return;
  }
  if (where.merges == 0 && read_as_it_is) {
    settle();
    std::memcpy(places_[top].mutable_data_ptr(), gradient.const_data_ptr(), gradient.nbytes());
    return;
  }
  if (!read_as_it_is) {
    settle();
    return place(where, places_, gradient);
  }
  const auto merge = [&]<class T>(T) {
    const bool waits = waiting_.defined() && waits_for_ == top - 1;
    T* place = places_[top - 1].data_ptr<T>();
    std::array<T*, 64> below{};
    const auto more = static_cast<size_t>(where.merges) - 1;
    for (size_t k = 0; k < more; ++k) below[k] = places_[top - 1 - more + k].data_ptr<T>();
    const std::span<T* const> lower(below.data(), more);
    const T* made = gradient.const_data_ptr<T>();
    if (!waits) return add_up(place, place, made, lower, gradient.numel());
    add_up(place, waiting_.const_data_ptr<T>(), made, lower, gradient.numel());
    waiting_.reset();
  };
  gradient.scalar_type() == torch::kFloat64 ? merge(double{}) : merge(float{});
}

}  // namespace lab
