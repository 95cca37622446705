#pragma once
// The few numbers that ride behind a step's gradients, and what is known of the step by them. On CPUs they
// are read and written without torch's kernels, whose calls would be a tenth of a small step.

#include <ATen/core/Tensor.h>

#include <span>

#include "lab/train/loss.h"
#include "lab/train/reducer.h"

namespace lab {

inline constexpr int64_t rider_slots = 6;  // the loss's sum and weight, and the notes

// 1-D, of rider_slots numbers.
at::Tensor riders(const WeightedSum& loss, const StepNotes& notes, const at::TensorOptions& options);

// The rest is for tensors on CPUs, but for facts_of.
at::Tensor tensor_of(std::span<const double> numbers, at::ScalarType type);
at::Tensor scalar_of(double number, at::ScalarType type);
double weight_of(const at::Tensor& riders);  // not 0, so that a step without samples has zeros
inline constexpr double least_weight = 1e-30;

// The facts: the riders, in f64, and the norm behind them.
at::Tensor facts_of(const at::Tensor& riders, const at::Tensor& norm);
std::vector<double> facts_of(const at::Tensor& riders, double norm);

}  // namespace lab
