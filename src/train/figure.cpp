#include "lab/train/figure.h"

#include <torch/types.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"

namespace lab {

Figure confusion_matrix(std::vector<std::string> classes, std::string target) {
  const auto n = std::ssize(classes);
  const auto count = [n, target = std::move(target)](const Parts& output, const Batch& batch) {
    const at::Tensor& logits = output.only();
    if (logits.dim() != 2 || logits.size(1) != n)
      throw ConfigError("confusion_matrix was given ", n, " classes, but the model's output has the shape ",
                        logits.sizes(), "; name each of its classes");
    const at::Tensor& truth = batch[target];
    const at::Tensor rows = truth.dim() == 2 ? truth.argmax(1) : truth.to(torch::kLong);
    return torch::bincount(rows * n + logits.argmax(1), {}, n * n);
  };
  const auto draw = [n, classes = std::move(classes)](std::span<const double> sums) {
    nlohmann::json rows = nlohmann::json::array();
    for (auto at = sums.begin(); at != sums.end(); at += n) rows.push_back(std::vector<int64_t>(at, at + n));
    const nlohmann::json matrix = {{"type", "heatmap"}, {"x", classes},          {"y", classes},
                                   {"z", rows},         {"colorscale", "Blues"}, {"texttemplate", "%{z}"}};
    const nlohmann::json layout = {
        {"xaxis", {{"title", "prediction"}, {"type", "category"}}},
        {"yaxis", {{"title", "truth"}, {"type", "category"}, {"autorange", "reversed"}}}};
    return nlohmann::json{{"data", {matrix}}, {"layout", layout}}.dump();
  };
  return {"confusion", n * n, count, draw};
}

}  // namespace lab
