#include "lab/train/ordered_sums.h"

#include <torch/types.h>

#include <algorithm>
#include <limits>

namespace lab {

OrderedSums::OrderedSums(int64_t rows, int64_t columns)
    : rows_(rows), columns_(columns), values_(static_cast<size_t>(rows * columns * 2), 0.0) {}

void OrderedSums::add(int64_t row, int64_t column, const WeightedSum& value) {
  const auto at = static_cast<size_t>((row * columns_ + column) * 2);
  values_[at] += value.sum.item<double>();
  values_[at + 1] += value.weight.item<double>();
}

void OrderedSums::clear() { std::fill(values_.begin(), values_.end(), 0.0); }

std::vector<double> OrderedSums::means(Communicator& comm) const {
  std::vector<double> all = values_;
  comm.all_reduce({all.data(), static_cast<int64_t>(all.size()), DType::f64},
                  ReduceOp::sum);  // one rank's value + zeros
  std::vector<double> means;
  for (int64_t column = 0; column < columns_; ++column) {
    double sum = 0, weight = 0;
    for (int64_t row = 0; row < rows_; ++row) {
      const auto at = static_cast<size_t>((row * columns_ + column) * 2);
      sum += all[at];
      weight += all[at + 1];
    }
    means.push_back(weight > 0 ? sum / weight : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

}  // namespace lab
