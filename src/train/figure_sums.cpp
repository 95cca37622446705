#include "train/figure_sums.h"

#include <torch/types.h>

#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "train/explained.h"

namespace lab {

FigureSums::FigureSums(const std::vector<Figure>& figures) : figures_(figures), sums_(figures.size()) {}

void FigureSums::add(const Parts& output, const Batch& batch) {
  const torch::NoGradGuard no_grad;
  auto sum = sums_.begin();
  for (const Figure& figure : figures_) {
    const at::Tensor counted = explained("figure", batch, [&] { return figure.count(output, batch); });
    if (counted.numel() != figure.numbers)
      throw ConfigError("the experiment's figure ", quoted(figure.name), " counted ", counted.numel(),
                        " numbers for a batch, but says ", figure.numbers, "; let both be the same");
    const at::Tensor numbers = counted.to(torch::kFloat64).flatten();
    *sum = sum->defined() ? *sum + numbers : numbers;
    ++sum;
  }
}

void FigureSums::all_reduce(Communicator& comm) {
  const Errand errand("figures");
  numbers_.clear();
  for (size_t i = 0; i < figures_.size(); ++i) {
    const auto count = figures_[i].numbers;
    const at::Tensor own =
        sums_[i].defined() ? sums_[i].to(torch::kCPU).contiguous() : torch::zeros({count}, torch::kFloat64);
    const auto* first = own.const_data_ptr<double>();
    numbers_.insert(numbers_.end(), first, first + count);
  }
  comm.all_reduce({numbers_.data(), std::ssize(numbers_), DType::f64}, ReduceOp::sum);
}

std::vector<DrawnFigure> FigureSums::drawn() const {
  std::vector<DrawnFigure> list;
  std::span<const double> rest = numbers_;
  for (const Figure& figure : figures_) {
    const auto numbers = static_cast<size_t>(figure.numbers);
    list.push_back({figure.name, figure.draw(rest.first(numbers))});
    if (const std::string mistake = mistake_in(list.back().drawing); !mistake.empty())
      throw ConfigError("the experiment's figure ", quoted(figure.name), " cannot be drawn: ", mistake);
    rest = rest.subspan(numbers);
  }
  return list;
}

}  // namespace lab
