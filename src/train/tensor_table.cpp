#include "train/tensor_table.h"

#include <torch/types.h>

#include <algorithm>
#include <exception>

#include "lab/core/formatted.h"
#include "lab/core/text.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

std::string cell(double value) { return formatted("%.5g", value); }

std::vector<std::string> row_of(const std::string& name, const at::Tensor& tensor) {
  if (!tensor.defined()) return {name, "none", "", "", "", "", ""};
  const at::Tensor values = tensor.detach().to(torch::kCPU, torch::kFloat64);
  const at::Tensor finite = values.masked_select(values.isfinite());
  const auto of = [&](const at::Tensor& number) {
    return finite.numel() > 0 ? cell(number.item<double>()) : "";
  };
  const bool any = finite.numel() > 0;
  return {name,
          text(name_of(dtype_of(tensor.scalar_type()))),
          text(tensor.sizes()),
          of(any ? finite.min() : finite),
          of(any ? finite.max() : finite),
          of(any ? finite.mean() : finite),
          std::to_string(values.numel() - finite.numel())};
}

}  // namespace

std::string tensor_table(const std::vector<NamedTensor>& tensors) {
  const torch::NoGradGuard no_grad;
  std::vector<std::vector<std::string>> rows = {
      {"tensor", "type", "shape", "smallest", "greatest", "mean", "not finite"}};
  for (const auto& [name, tensor] : tensors) try {
      rows.push_back(row_of(name, tensor));
    } catch (const std::exception&) {  // a GPU that has failed, or a kind of tensor that has no such numbers
      rows.push_back({name, "cannot be read", "", "", "", "", ""});
    }
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string fill(widths[i] - row[i].size(), ' ');
      line += i < 3 ? text("  ", row[i], fill) : text("  ", fill, row[i]);
    }
    out += line + '\n';
  }
  return out;
}

}  // namespace lab
