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

// A term of a sum: numbers, or the sums of two.
template <class T>
struct Term {
  const T* first;
  const T* second;  // nullptr: there is none
};

// `to` becomes each of the terms, one after the other, plus what is there so far: at first `numbers`.
template <class T>
void add_up(T* to, std::span<const Term<T>> terms, const T* numbers, int64_t count) {
  constexpr int64_t most = block_bytes / static_cast<int64_t>(sizeof(T));
  alignas(64) std::array<T, most> sum;
  work_in_wide_vectors([&](auto) {
    const auto add = [&](const Term<T>& term, const T* so_far, int64_t first, int64_t n) {
      const T* a = term.first + first;
      if (const T* b = term.second; b != nullptr)
        for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] = (a[i] + b[first + i]) + so_far[i];
      else
        for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] = a[i] + so_far[i];
    };
    for (int64_t first = 0; first < count; first += most) {
      const int64_t n = std::min(most, count - first);
      add(terms.front(), numbers + first, first, n);
      for (const Term<T>& term : terms.subspan(1)) add(term, sum.data(), first, n);
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

void SlotSums::push(size_t at, const at::Tensor& gradient, bool last) {
  if (!last) {
    waiting_.push_back({at, gradient, {}});
    return;
  }
  settle();
  std::memcpy(places_[at].mutable_data_ptr(), gradient.const_data_ptr(), gradient.nbytes());
}

void SlotSums::merge(const Placement& where, const at::Tensor& gradient) {
  const auto lowest = static_cast<size_t>(where.depth - where.merges);
  const auto sum = [&]<class T>(T) {
    std::array<Term<T>, 64> terms;
    size_t count = 0, waits = waiting_.size();
    for (auto at = static_cast<size_t>(where.depth); at-- > lowest;) {
      if (waits == 0 || waiting_[waits - 1].at != at) {
        terms[count++] = {places_[at].const_data_ptr<T>(), nullptr};
        continue;
      }
      const auto& [entry, first, second] = waiting_[--waits];
      terms[count++] = {first.const_data_ptr<T>(), second.defined() ? second.const_data_ptr<T>() : nullptr};
    }
    add_up<T>(places_[lowest].data_ptr<T>(), {terms.data(), count}, gradient.const_data_ptr<T>(),
              gradient.numel());
    waiting_.resize(waits);
  };
  gradient.scalar_type() == torch::kFloat64 ? sum(double{}) : sum(float{});
}

void SlotSums::add(const Placement& where, const at::Tensor& gradient, bool last) {
  if (!fits(gradient)) {
    settle();
    return place(where, places_, gradient);
  }
  const auto top = static_cast<size_t>(where.depth);
  if (where.merges == 0) return push(top, gradient, last);
  const bool onto_one = where.merges == 1 && !waiting_.empty() && waiting_.back().at + 1 == top &&
                        !waiting_.back().second.defined();
  if (onto_one && keeps_pairs_ && !last) {
    waiting_.back().second = gradient;
    return;
  }
  merge(where, gradient);
  if (last) settle();
}

}  // namespace lab
