#include "train/non_finite.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "lab/core/text.h"

namespace lab {
namespace {

const char* kind_of(const at::Tensor& tensor) {
  return tensor.isnan().any().item<bool>() ? "NaN" : "infinity";
}

// Which rows of a (samples, ...) tensor hold something that is not finite.
std::vector<int64_t> bad_samples(const at::Tensor& tensor, const std::vector<int64_t>& ids) {
  std::vector<int64_t> bad;
  if (tensor.dim() == 0 || tensor.size(0) != static_cast<int64_t>(ids.size())) return bad;
  const at::Tensor rows = tensor.reshape({tensor.size(0), -1}).isfinite().all(1);
  for (int64_t i = 0; i < rows.size(0); ++i)
    if (!rows[i].item<bool>()) bad.push_back(ids[static_cast<size_t>(i)]);
  return bad;
}

std::string describe(const Parts& parts, const char* whole, const std::vector<int64_t>& ids) {
  for (const auto& [name, tensor] : parts.entries()) {
    if (!tensor.is_floating_point() || tensor.isfinite().all().item<bool>()) continue;
    const auto bad = bad_samples(tensor, ids);
    return text(kind_of(tensor), " in ", whole, name.empty() ? "" : text(" '", name, "'"), " (samples ",
                short_list(bad), ")");
  }
  return "";
}

}  // namespace

std::string first_non_finite(const TrainPlan& plan, const Batch& batch) {
  if (batch.count() == 0) return "";
  if (const auto found = describe(batch.parts, "the batch's part", batch.ids); !found.empty()) return found;
  const Parts output = plan.model.forward(batch);
  if (const auto found = describe(output, "the model's output", batch.ids); !found.empty()) return found;
  const WeightedSum loss = plan.loss(output, batch);
  if (!loss.sum.isfinite().all().item<bool>())
    return text(kind_of(loss.sum), " in the loss (samples ", short_list(batch.ids), ")");
  std::vector<at::Tensor> parameters;
  std::vector<std::string> names;
  for (const auto& item : plan.model.module().named_parameters())
    if (item.value().requires_grad()) {
      parameters.push_back(item.value());
      names.push_back(item.key());
    }
  const auto gradients =
      torch::autograd::grad({loss.sum}, parameters, {}, std::nullopt, false, /*allow_unused=*/true);
  for (size_t i = 0; i < gradients.size(); ++i)
    if (gradients[i].defined() && !gradients[i].isfinite().all().item<bool>())
      return text(kind_of(gradients[i]), " in the gradient of ", names[i], " (samples ",
                  short_list(batch.ids), ")");
  return "";
}

}  // namespace lab
