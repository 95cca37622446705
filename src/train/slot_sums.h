#pragma once
// Where one parameter's gradients are added up on this rank: its place in each entry of the stack of partial
// sums.

#include <ATen/core/Tensor.h>

#include <vector>

#include "lab/train/step_plan.h"

namespace lab {

// On processors gradients go through the memory as seldom as can be: one that the next is added to waits
// where backward made it, and what a leaf's is added to is read and written once, whatever it merges with.
// The order of the additions, and so the bits, are those of doing one after the other. One thread.
class SlotSums {
 public:
  explicit SlotSums(std::vector<at::Tensor> places) : places_(std::move(places)) {}
  // places()[0] is the lowest entry.
  const std::vector<at::Tensor>& places() const { return places_; }

  // Adds a micro-batch's gradient, undefined for zeros, which nobody changes any more. Behind the step's
  // `last` all of it is in its places.
  void add(const Placement& where, const at::Tensor& gradient, bool last);

 private:
  bool fits(const at::Tensor& gradient) const;
  void settle();

  std::vector<at::Tensor> places_;
  at::Tensor waiting_;  // what is to be the entry `waits_for_`
  size_t waits_for_ = 0;
};

}  // namespace lab
