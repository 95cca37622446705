#include "lab/train/ordered_sums.h"

#include <torch/types.h>

#include <limits>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"

namespace lab {

OrderedSums::OrderedSums(int64_t rows, int64_t columns, at::Device device)
    : rows_(rows),
      columns_(columns),
      values_(torch::zeros({rows, columns, 2}, at::TensorOptions(torch::kFloat64).device(device))) {}

void OrderedSums::add(int64_t row, int64_t column, const WeightedSum& value) {
  if (values_.is_cpu()) {
    double* at = values_.mutable_data_ptr<double>() + (row * columns_ + column) * 2;
    at[0] += value.sum.item<double>();
    at[1] += value.weight.item<double>();
    return;
  }
  const torch::NoGradGuard no_grad;
  const at::Tensor at = values_[row][column];
  at[0].add_(value.sum.detach());
  at[1].add_(value.weight.detach());
}

void OrderedSums::clear() { values_.zero_(); }

at::Tensor OrderedSums::gathered(Communicator& comm) const {
  const at::Tensor all = values_.to(torch::kCPU, torch::kFloat64, /*non_blocking=*/false, /*copy=*/true);
  const Errand errand("sums");
  comm.all_reduce(as_buffer(all), ReduceOp::sum);  // one rank's value + zeros
  return all;
}

void OrderedSums::restore(const at::Tensor& gathered, Range own) {
  if (gathered.dim() != 3 || gathered.size(1) != columns_ || gathered.size(2) != 2)
    throw DataError("the checkpoint has the sums of ", gathered.dim() > 1 ? gathered.size(1) - 1 : 0,
                    " metrics, this run has ", columns_ - 1, "; go on with those it was written with");
  at::Tensor all = gathered;
  if (all.size(0) != rows_) {
    all = torch::zeros({rows_, columns_, 2}, torch::kFloat64);
    all[0].copy_(gathered.sum(0));
  }
  clear();
  values_.narrow(0, own.first, own.count).copy_(all.narrow(0, own.first, own.count));
}

std::vector<double> OrderedSums::means(Communicator& comm) const {
  const at::Tensor everything = gathered(comm);
  const auto* all = everything.const_data_ptr<double>();
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
