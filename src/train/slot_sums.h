#pragma once
// Where one parameter's gradients are added up on this rank: its place in each entry of the stack of partial
// sums.

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "lab/core/range.h"
#include "lab/train/step_plan.h"

namespace lab {

// On processors gradients go through the memory as seldom as can be: one that the next is added to waits
// where backward made it, two that are one entry may wait for the third, and what a leaf's is added to is
// read and written once, whatever it merges with. The sum that a step ends in may be made later, piece by
// piece, each when it is used. The order of the additions, and so the bits, are those of doing one after the
// other. One thread.
class SlotSums {
 public:
  // keeps_gradients: for fewer passes through the memory more gradients of a parameter lie in it at a time.
  explicit SlotSums(std::vector<at::Tensor> places, bool keeps_gradients = false)
      : places_(std::move(places)), keeps_gradients_(keeps_gradients) {}
  // places()[0] is the lowest entry.
  const std::vector<at::Tensor>& places() const { return places_; }

  // Adds a micro-batch's gradient, undefined for zeros, which nobody changes any more. Behind the step's
  // `last` all is in its places, except that the elements `later`, counted from the gradient's first, of the
  // sum it ends in may be left to make(), until the next add() or forget().
  void add(const Placement& where, const at::Tensor& gradient, bool last, Range later = {});
  // Brings these elements to their place, if they are left. Once for each, here or by sums().
  void make(Range elements);
  // The sums of these elements: made and in places()[0], or where backward made them.
  const void* sums(Range elements);
  void forget() { left_ = {}; }

 private:
  // What is to be the entry `at`: a gradient, or the sum of two.
  struct Term {
    size_t at = 0;
    at::Tensor first, second;
  };
  // Each of the terms, one after the other, plus what is there so far: at first the gradient. To be the entry
  // `at`.
  struct Sum {
    size_t at = 0;
    at::Tensor gradient;
    std::vector<Term> terms;
  };
  bool fits(const at::Tensor& gradient) const;
  Sum take_sum(const Placement& where, const at::Tensor& gradient);
  void make(const Sum& sum, Range elements);
  void settle();

  std::vector<at::Tensor> places_;
  bool keeps_gradients_;
  std::vector<Term> waiting_;  // entries that are not in their places, from the lowest on
  Sum left_;                   // without gradient: nothing
  Range left_elements_;        // of it
};

}  // namespace lab
