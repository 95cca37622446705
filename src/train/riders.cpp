#include "train/riders.h"

#include <ATen/EmptyTensor.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace lab {
namespace {

double number_at(const at::Tensor& numbers, int64_t i) {
  if (numbers.scalar_type() == torch::kFloat64) return numbers.const_data_ptr<double>()[i];
  if (numbers.scalar_type() == torch::kFloat32)
    return static_cast<double>(numbers.const_data_ptr<float>()[i]);
  return numbers.reshape({-1})[i].item<double>();
}

at::Tensor tensor_of(std::span<const double> numbers, at::IntArrayRef sizes, at::ScalarType type) {
  if (type != torch::kFloat64 && type != torch::kFloat32)
    return tensor_of(numbers, sizes, torch::kFloat64).to(type);
  const at::Tensor out = at::detail::empty_cpu(sizes, type);
  if (type == torch::kFloat64)
    std::ranges::copy(numbers, out.data_ptr<double>());
  else
    std::ranges::transform(numbers, out.data_ptr<float>(), [](double n) { return static_cast<float>(n); });
  return out;
}

}  // namespace

at::Tensor tensor_of(std::span<const double> numbers, at::ScalarType type) {
  return tensor_of(numbers, {std::ssize(numbers)}, type);
}

at::Tensor scalar_of(double number, at::ScalarType type) { return tensor_of({&number, 1}, {}, type); }

at::Tensor riders(const WeightedSum& loss, const StepNotes& notes, const at::TensorOptions& options) {
  if (options.device().is_cpu()) {
    std::array<double, rider_slots> numbers = {0, 0, notes.stop, notes.interrupt, notes.save, notes.over};
    if (loss.sum.defined()) {
      numbers[0] = number_at(loss.sum, 0);
      numbers[1] = number_at(loss.weight, 0);
    }
    return tensor_of(numbers, options.dtype().toScalarType());
  }
  const at::Tensor out = torch::zeros({rider_slots}, options);
  if (notes.stop != 0) out[2].fill_(notes.stop);  // seldom; a copy from here would hold up a GPU
  if (notes.interrupt != 0) out[3].fill_(notes.interrupt);
  if (notes.save != 0) out[4].fill_(notes.save);
  if (notes.over != 0) out[5].fill_(notes.over);
  if (!loss.sum.defined()) return out;
  out[0].copy_(loss.sum.detach());
  out[1].copy_(loss.weight.detach());
  return out;
}

double weight_of(const at::Tensor& riders) { return std::max(number_at(riders, 1), least_weight); }

at::Tensor facts_of(const at::Tensor& riders, const at::Tensor& norm) {
  return at::cat({riders.to(torch::kFloat64), norm.reshape({1})});
}

std::vector<double> facts_of(const at::Tensor& riders, double norm) {
  std::vector<double> facts;
  for (int64_t i = 0; i < rider_slots; ++i) facts.push_back(number_at(riders, i));
  facts.push_back(norm);
  return facts;
}

StepFacts step_facts(const double* numbers) {
  StepFacts facts{
      numbers[0], numbers[1], {numbers[2], numbers[3], numbers[4], numbers[5]}, numbers[rider_slots]};
  facts.finite =
      std::all_of(numbers, numbers + rider_slots + 1, [](double number) { return std::isfinite(number); });
  return facts;
}

StepFacts StepSums::told() const { return step_facts(facts.to(torch::kCPU).const_data_ptr<double>()); }

}  // namespace lab
