#pragma once
// Sums over ranks with the same bits for any rank count: every row is computed by one rank, and rows are
// added in order.

#include <span>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"
#include "lab/train/loss.h"

namespace lab {

struct SumColumn {
  int64_t numbers = 2;
  bool whole = false;  // whole numbers: their sums are exact in any order, so one row is enough
};

// rows x columns of numbers in double, on the device where they are computed. A row is a leaf of the step or
// a chunk of an evaluation. Takes 8 bytes for each number of each row, but for whole numbers of one row only.
class OrderedSums {
 public:
  OrderedSums(int64_t rows, const std::vector<SumColumn>& columns, at::Device device = at::kCPU);
  // To a column of two.
  void add(int64_t row, size_t column, const WeightedSum& value);
  // All numbers of a column, in one tensor after the other. On a GPU nothing waits for it.
  void add(int64_t row, size_t column, std::span<const at::Tensor> numbers);
  bool has(size_t column) const { return places_[column].numbers > 0; }
  void clear();
  std::vector<at::Tensor> tensors() const { return {ordered_, whole_}; }  // that add() changes
  // The sums of each column over all rows of all ranks. Every rank must call.
  std::vector<std::vector<double>> totals(Communicator& comm) const;
  // Everything of all ranks, for a checkpoint: (rows, pairs, 2) doubles. A column fills as many pairs as it
  // takes; whole numbers come last, in the first row. Every rank must call.
  at::Tensor gathered(Communicator& comm) const;
  // Goes on from that, this rank with its `own` rows. With another number of rows than before, the first row
  // gets the sum of all.
  void restore(const at::Tensor& gathered, Range own);

 private:
  struct Place {
    int64_t numbers = 0;
    bool whole = false;
    int64_t first = 0;  // where in a row of its part
  };
  std::vector<Place> places_;
  at::Tensor ordered_;  // (rows, numbers) doubles
  at::Tensor whole_;    // (1, numbers) doubles
};

// (sum, weight): NaN without weight.
double mean_of(std::span<const double> sum_and_weight);

}  // namespace lab
