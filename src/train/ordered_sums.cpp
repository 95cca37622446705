#include "lab/train/ordered_sums.h"

#include <torch/types.h>

#include <limits>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

void add_on_host(double* at, std::span<const at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.numel() == 1) {
      *at++ += tensor.item<double>();
      continue;
    }
    const at::Tensor numbers = tensor.detach().to(torch::kCPU, torch::kFloat64).contiguous();
    const auto* first = numbers.const_data_ptr<double>();
    for (int64_t i = 0; i < numbers.numel(); ++i) *at++ += first[i];
  }
}

// A scalar may be on the host: torch hands it over by value.
void add_on_device(const at::Tensor& row, int64_t at, std::span<const at::Tensor> tensors) {
  const torch::NoGradGuard no_grad;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.dim() == 0)
      row[at].add_(tensor.detach());
    else
      row.narrow(0, at, tensor.numel()).add_(tensor.detach().flatten());
    at += tensor.numel();
  }
}

// Of all ranks: each number is one rank's, and zeros; or whole.
at::Tensor reduced(Communicator& comm, const at::Tensor& own) {
  const at::Tensor all = own.to(torch::kCPU, torch::kFloat64, /*non_blocking=*/false, /*copy=*/true);
  const Errand errand("sums");
  if (all.numel() > 0) comm.all_reduce(as_buffer(all), ReduceOp::sum);
  return all;
}

}  // namespace

OrderedSums::OrderedSums(int64_t rows, const std::vector<SumColumn>& columns, at::Device device) {
  int64_t ordered = 0, whole = 0;
  for (const auto& [numbers, is_whole] : columns) {
    int64_t& end = is_whole ? whole : ordered;
    places_.push_back({numbers, is_whole, end});
    end += (numbers + 1) / 2 * 2;  // whole pairs
  }
  const auto options = at::TensorOptions(torch::kFloat64).device(device);
  ordered_ = torch::zeros({rows, ordered}, options);
  whole_ = torch::zeros({1, whole}, options);
}

void OrderedSums::add(int64_t row, size_t column, const WeightedSum& value) {
  const at::Tensor pair[] = {value.sum, value.weight};
  add(row, column, pair);
}

void OrderedSums::add(int64_t row, size_t column, std::span<const at::Tensor> numbers) {
  const Place& place = places_[column];
  const at::Tensor& part = place.whole ? whole_ : ordered_;
  if (place.whole) row = 0;
  if (part.is_cpu())
    add_on_host(part.mutable_data_ptr<double>() + row * part.size(1) + place.first, numbers);
  else
    add_on_device(part[row], place.first, numbers);
}

void OrderedSums::clear() {
  ordered_.zero_();
  whole_.zero_();
}

std::vector<std::vector<double>> OrderedSums::totals(Communicator& comm) const {
  const at::Tensor ordered = reduced(comm, ordered_), whole = reduced(comm, whole_);
  std::vector<std::vector<double>> totals;
  for (const Place& place : places_) {
    const at::Tensor& part = place.whole ? whole : ordered;
    std::vector<double> sums(static_cast<size_t>(place.numbers), 0.0);
    for (int64_t row = 0; row < part.size(0) && place.numbers > 0; ++row) {
      const double* at = part.const_data_ptr<double>() + row * part.size(1) + place.first;
      for (double& sum : sums) sum += *at++;
    }
    totals.push_back(std::move(sums));
  }
  return totals;
}

at::Tensor OrderedSums::gathered(Communicator& comm) const {
  const int64_t rows = ordered_.size(0), ordered = ordered_.size(1), whole = whole_.size(1);
  const at::Tensor all = torch::zeros({rows, ordered + whole}, torch::kFloat64);
  all.narrow(1, 0, ordered).copy_(ordered_);
  all.narrow(0, 0, 1).narrow(1, ordered, whole).copy_(whole_);
  return reduced(comm, all).view({rows, -1, 2});
}

void OrderedSums::restore(const at::Tensor& gathered, Range own) {
  const int64_t rows = ordered_.size(0), ordered = ordered_.size(1), whole = whole_.size(1);
  const int64_t pairs = (ordered + whole) / 2;
  if (gathered.dim() != 3 || gathered.size(1) != pairs || gathered.size(2) != 2)
    throw DataError(
        "the checkpoint has the sums of ", gathered.dim() > 1 ? gathered.size(1) - 1 : 0,
        " metrics, this run has ", pairs - 1,
        " (one of more than two numbers counts as several); go on with those it was written with");
  at::Tensor all = gathered.reshape({gathered.size(0), -1});
  if (all.size(0) != rows) {
    const at::Tensor sum = all.sum(0);
    all = torch::zeros({rows, sum.size(0)}, torch::kFloat64);
    all[0].copy_(sum);
  }
  clear();
  ordered_.narrow(0, own.first, own.count).copy_(all.narrow(0, own.first, own.count).narrow(1, 0, ordered));
  if (own.first == 0 && own.count > 0) whole_.copy_(all.narrow(0, 0, 1).narrow(1, ordered, whole));
}

double mean_of(std::span<const double> sum_and_weight) {
  const double weight = sum_and_weight[1];
  return weight > 0 ? sum_and_weight[0] / weight : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace lab
