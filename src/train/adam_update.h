#pragma once
// What one step of Adam or AdamW does to elements on a processor.

#include <cstdint>

namespace lab::detail {

// Of one group of parameters. Kingma and Ba 2015, algorithm 1;
// Loshchilov and Hutter 2019 for the decoupled decay; Reddi, Kale and Kumar 2018 for amsgrad.
struct AdamStep {
  double rate, beta1, beta2, eps, weight_decay;
  bool decoupled;      // AdamW
  int64_t number = 1;  // of updates with this one
};

// So many elements each, in memory of their own.
template <class T>
struct AdamElements {
  T* parameters;
  const T* gradients;  // means
  T* average;
  T* squares;  // their average
  T* largest;  // of them all so far; null without amsgrad
};

// T: float or double. An element's bits are the same wherever it lies and with whichever instructions: those
// of torch's fused kernel, where that one uses AVX2 or AVX-512 on it. Reads and writes every number once, and
// fetches ahead. Any thread.
template <class T>
void update(const AdamStep& step, const AdamElements<T>& elements, int64_t count);

}  // namespace lab::detail
