#include "lab/train/model_summary.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lab/core/text.h"

namespace lab {
namespace {

constexpr size_t most_columns = 78;

struct Row {
  std::string name, kind, shapes, count;
};

// "torch::nn::Conv2dImpl" is a Conv2d.
std::string kind_of(const torch::nn::Module& module) {
  std::string kind = module.name();
  if (const size_t scope = kind.rfind("::"); scope != std::string::npos) kind.erase(0, scope + 2);
  if (kind.ends_with("Impl")) kind.resize(kind.size() - 4);
  return kind;
}

std::string with_commas(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string shape_of(const at::Tensor& tensor) {
  std::vector<std::string> sizes;
  for (const int64_t size : tensor.sizes()) sizes.push_back(std::to_string(size));
  return sizes.empty() ? "1" : join(sizes, "x");
}

std::string shortened(std::string text, size_t columns) {
  if (text.size() > columns) text = "..." + text.substr(text.size() - columns + 3);
  return text;
}

// Parameters that no layer before had, as tied ones have been counted.
Row row_of(const std::string& name, const torch::nn::Module& layer, std::set<c10::TensorImpl*>& seen) {
  Row row{shortened(name.empty() ? "(itself)" : name, 24), shortened(kind_of(layer), 18), "", ""};
  int64_t count = 0;
  bool frozen = true;
  for (const auto& item : layer.named_parameters(/*recurse=*/false)) {
    if (!item.value().defined() || !seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
    row.shapes += (row.shapes.empty() ? "" : " ") + shape_of(item.value());
    count += item.value().numel();
    frozen = frozen && !item.value().requires_grad();
  }
  if (count > 0) row.count = with_commas(count);
  if (frozen && count > 0) row.shapes += " frozen";
  return row;
}

}  // namespace

std::vector<std::string> model_summary(const torch::nn::Module& module) {
  std::vector<Row> rows = {{"layer", "kind", "shapes", "parameters"}};
  std::set<c10::TensorImpl*> seen;
  for (const auto& item : module.named_modules())
    if (Row row = row_of(item.key(), *item.value(), seen); !row.count.empty()) rows.push_back(std::move(row));
  size_t name = 0, kind = 0, count = 0;
  for (const Row& row : rows) {
    name = std::max(name, row.name.size());
    kind = std::max(kind, row.kind.size());
    count = std::max(count, row.count.size());
  }
  const size_t room = most_columns - name - kind - count - 6;
  size_t shapes = 0;
  for (Row& row : rows) {
    if (row.shapes.size() > room) row.shapes = row.shapes.substr(0, room - 3) + "...";
    shapes = std::max(shapes, row.shapes.size());
  }
  std::vector<std::string> lines;
  for (const Row& row : rows)
    lines.push_back(text(row.name, std::string(name - row.name.size() + 2, ' '), row.kind,
                         std::string(kind - row.kind.size() + 2, ' '), row.shapes,
                         std::string(shapes - row.shapes.size() + 2 + count - row.count.size(), ' '),
                         row.count));
  int64_t all = 0, trained = 0, bytes = 0;
  for (const at::Tensor& parameter : module.parameters()) {
    all += parameter.numel();
    trained += parameter.requires_grad() ? parameter.numel() : 0;
    bytes += static_cast<int64_t>(parameter.nbytes());
  }
  lines.push_back(text(with_commas(all), " parameters, ", with_commas(trained), " of them trained, ",
                       shortest(std::round(static_cast<double>(bytes) / (1 << 20) * 100) / 100), " MiB"));
  return lines;
}

}  // namespace lab
