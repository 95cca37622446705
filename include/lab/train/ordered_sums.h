#pragma once
// Weighted means over ranks with the same bits for any rank count: every row is computed by one rank, and
// rows are added in order.

#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/loss.h"

namespace lab {

// rows x columns pairs of (sum, weight) in double. A row is a leaf of the step or a chunk of an evaluation.
class OrderedSums {
 public:
  OrderedSums(int64_t rows, int64_t columns);
  void add(int64_t row, int64_t column, const WeightedSum& value);
  void clear();
  // The mean of each column over all rows of all ranks; NaN for a column without weight. Every rank must
  // call.
  std::vector<double> means(Communicator& comm) const;

 private:
  int64_t rows_, columns_;
  std::vector<double> values_;  // row, column, (sum, weight)
};

}  // namespace lab
