#include "train/figure_sums.h"

#include <torch/types.h>

#include <algorithm>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "train/explained.h"

namespace lab {

FigureSums::FigureSums(const std::vector<Figure>& figures) : figures_(figures) {
  int64_t numbers = 0;
  for (const Figure& figure : figures) numbers += figure.numbers;
  sums_.resize(static_cast<size_t>(numbers));
}

void FigureSums::add(const Parts& output, const Batch& batch) {
  const torch::NoGradGuard no_grad;
  auto sum = sums_.begin();
  for (const Figure& figure : figures_) {
    const at::Tensor counted = explained("figure", batch, [&] { return figure.count(output, batch); });
    if (counted.numel() != figure.numbers)
      throw ConfigError("the experiment's figure ", quoted(figure.name), " counted ", counted.numel(),
                        " numbers for a batch, but says ", figure.numbers, "; let both be the same");
    const at::Tensor numbers = counted.to(torch::kCPU, torch::kFloat64).contiguous();
    const auto* number = numbers.const_data_ptr<double>();
    sum = std::transform(number, number + figure.numbers, sum, sum, std::plus<>());
  }
}

void FigureSums::all_reduce(Communicator& comm) {
  const Errand errand("figures");
  comm.all_reduce({sums_.data(), std::ssize(sums_), DType::f64}, ReduceOp::sum);
}

std::vector<DrawnFigure> FigureSums::drawn() const {
  std::vector<DrawnFigure> list;
  std::span<const double> rest = sums_;
  for (const Figure& figure : figures_) {
    const auto numbers = static_cast<size_t>(figure.numbers);
    list.push_back({figure.name, figure.draw(rest.first(numbers))});
    rest = rest.subspan(numbers);
  }
  return list;
}

}  // namespace lab
