#include "train/slot_sums.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "lab/comm/wide.h"

namespace lab {
namespace {

constexpr int64_t block_bytes = 8192;  // stays in the nearest cache

// Numbers of a term of a sum, or of the two whose sums they are.
template <class T>
struct Numbers {
  const T* first;
  const T* second;  // nullptr: there is none
};

// `to` becomes each of the terms, one after the other, plus what is there so far: at first `numbers`.
template <class T>
void add_up(T* to, std::span<const Numbers<T>> terms, const T* numbers, int64_t count) {
  constexpr int64_t most = block_bytes / static_cast<int64_t>(sizeof(T));
  alignas(64) std::array<T, most> sum;
  work_in_wide_vectors([&](auto) {
    const auto add = [&](const Numbers<T>& term, const T* so_far, int64_t first, int64_t n) {
      const T* a = term.first + first;
      if (const T* b = term.second; b != nullptr)
        for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] = (a[i] + b[first + i]) + so_far[i];
      else
        for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] = a[i] + so_far[i];
    };
    for (int64_t first = 0; first < count; first += most) {
      const int64_t n = std::min(most, count - first);
      add(terms.front(), numbers + first, first, n);
      for (const Numbers<T>& term : terms.subspan(1)) add(term, sum.data(), first, n);
      std::copy_n(sum.data(), n, to + first);
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
  for (const auto& [at, first, second] : waiting_)
    if (second.defined())
      at::add_out(places_[at], first, second);
    else
      places_[at].copy_(first);
  waiting_.clear();
}

SlotSums::Sum SlotSums::take_sum(const Placement& where, const at::Tensor& gradient) {
  Sum sum{static_cast<size_t>(where.depth - where.merges), gradient, {}};
  for (auto at = static_cast<size_t>(where.depth); at-- > sum.at;) {
    if (waiting_.empty() || waiting_.back().at != at) {
      sum.terms.push_back({at, places_[at], {}});
      continue;
    }
    sum.terms.push_back(std::move(waiting_.back()));
    waiting_.pop_back();
  }
  return sum;
}

void SlotSums::make(const Sum& sum, Range elements) {
  if (elements.count == 0) return;
  const auto make_of = [&]<class T>(T) {
    const auto numbers_of = [&](const at::Tensor& tensor) {
      return tensor.const_data_ptr<T>() + elements.first;
    };
    T* to = places_[sum.at].data_ptr<T>() + elements.first;
    if (sum.terms.empty()) {
      std::copy_n(numbers_of(sum.gradient), elements.count, to);
      return;
    }
    std::array<Numbers<T>, 64> terms;
    size_t count = 0;
    for (const Term& term : sum.terms)
      terms[count++] = {numbers_of(term.first), term.second.defined() ? numbers_of(term.second) : nullptr};
    add_up<T>(to, {terms.data(), count}, numbers_of(sum.gradient), elements.count);
  };
  sum.gradient.scalar_type() == torch::kFloat64 ? make_of(double{}) : make_of(float{});
}

void SlotSums::add(const Placement& where, const at::Tensor& gradient, bool last, Range later) {
  forget();
  if (where.depth == 0) waiting_.clear();  // of a step that was not ended
  if (!fits(gradient)) {
    settle();
    return place(where, places_, gradient);
  }
  const auto top = static_cast<size_t>(where.depth);
  if (where.merges == 0 && !last) {
    waiting_.push_back({top, gradient, {}});
    return;
  }
  const bool onto_one = where.merges == 1 && !waiting_.empty() && waiting_.back().at + 1 == top &&
                        !waiting_.back().second.defined();
  if (onto_one && keeps_gradients_ && !last) {
    waiting_.back().second = gradient;
    return;
  }
  Sum sum = take_sum(where, gradient);
  if (last) settle();
  if (!last || (where.merges > 0 && !keeps_gradients_)) later = {};
  make(sum, {0, later.first});
  make(sum, {later.end(), gradient.numel() - later.end()});
  if (later.count == 0) return;
  left_ = std::move(sum);
  left_elements_ = later;
}

void SlotSums::make(Range elements) {
  if (left_.gradient.defined()) make(left_, overlap(elements, left_elements_));
}

const void* SlotSums::sums(Range elements) {
  const bool as_made = left_.gradient.defined() && left_.at == 0 && left_.terms.empty();
  if (!as_made) make(elements);
  const at::Tensor& from = as_made ? left_.gradient : places_.front();
  return static_cast<const std::byte*>(from.const_data_ptr()) + elements.first * from.element_size();
}

}  // namespace lab
