#pragma once
// Weighted means over ranks with the same bits for any rank count: every row is computed by one rank, and
// rows are added in order.

#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"
#include "lab/train/loss.h"

namespace lab {

// rows x columns pairs of (sum, weight) in double, on the device where they are computed. A row is a leaf of
// the step or a chunk of an evaluation.
class OrderedSums {
 public:
  OrderedSums(int64_t rows, int64_t columns, at::Device device = at::kCPU);
  void add(int64_t row, int64_t column, const WeightedSum& value);
  void clear();
  // The mean of each column over all rows of all ranks; NaN for a column without weight. Every rank must
  // call.
  std::vector<double> means(Communicator& comm) const;
  // Everything of all ranks, for a checkpoint: (rows, columns, 2) doubles. Every rank must call.
  at::Tensor gathered(Communicator& comm) const;
  // Goes on from that, this rank with its `own` rows. With another number of rows than before, the first row
  // gets the sum of all.
  void restore(const at::Tensor& gathered, Range own);

 private:
  int64_t rows_, columns_;
  at::Tensor values_;  // (rows, columns, 2) doubles
};

}  // namespace lab
