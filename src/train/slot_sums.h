#pragma once
// Where one parameter's gradients are added up on this rank: its place in each entry of the stack of partial
// sums.

#include <ATen/core/Tensor.h>

#include <vector>

#include "lab/train/step_plan.h"

namespace lab {

// On processors gradients go through the memory as seldom as can be: one that the next is added to waits
// where backward made it, two that are one entry may wait for the third, and what a leaf's is added to is
// read and written once, whatever it merges with. The order of the additions, and so the bits, are those of
// doing one after the other. One thread.
class SlotSums {
 public:
  // keeps_pairs: two gradients may wait, so that up to three of a parameter are in memory at a time.
  explicit SlotSums(std::vector<at::Tensor> places, bool keeps_pairs = false)
      : places_(std::move(places)), keeps_pairs_(keeps_pairs) {}
  // places()[0] is the lowest entry.
  const std::vector<at::Tensor>& places() const { return places_; }

  // Adds a micro-batch's gradient, undefined for zeros, which nobody changes any more. Behind the step's
  // `last` all of it is in its places.
  void add(const Placement& where, const at::Tensor& gradient, bool last);

 private:
  // What is to be the entry `at`: a gradient, or the sum of two.
  struct Waiting {
    size_t at = 0;
    at::Tensor first, second;
  };
  bool fits(const at::Tensor& gradient) const;
  void push(size_t at, const at::Tensor& gradient, bool last);
  void merge(const Placement& where, const at::Tensor& gradient);
  void settle();

  std::vector<at::Tensor> places_;
  bool keeps_pairs_;
  std::vector<Waiting> waiting_;  // the topmost entries, from the lowest on
};

}  // namespace lab
