#pragma once
// The sums that a plan's figures are drawn from.

#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/callback.h"
#include "lab/train/figure.h"

namespace lab {

class FigureSums {
 public:
  // Refers to the figures.
  explicit FigureSums(const std::vector<Figure>& figures);
  // Throws ConfigError for a figure whose numbers are not as many as it says, or that torch refuses.
  void add(const Parts& output, const Batch& batch);
  // Those of all ranks. Every rank must call.
  void all_reduce(Communicator& comm);
  // Of these sums. Throws what a figure's `draw` throws, and ConfigError for a drawing with a mistake.
  std::vector<DrawnFigure> drawn() const;

 private:
  const std::vector<Figure>& figures_;
  std::vector<at::Tensor> sums_;  // of each figure, where it is counted; undefined: zeros
  std::vector<double> numbers_;   // of one figure after the other, of all ranks
};

}  // namespace lab
