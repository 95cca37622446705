#include "lab/train/gradient_check.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <algorithm>

#include "lab/comm/agreement.h"
#include "lab/core/error.h"
#include "lab/core/formatted.h"
#include "lab/train/evaluator.h"
#include "lab/train/tensor_buffer.h"
#include "train/trainer_state.h"

namespace lab {

std::string table_of(const GradientComparison& comparison) {
  size_t columns = 0;
  for (const auto& parameter : comparison.parameters) columns = std::max(columns, parameter.parameter.size());
  std::string out = text(
      "step ", comparison.step, ", ", comparison.samples, " samples", comparison.batches > 1 ? " in " : "",
      comparison.batches > 1 ? text(comparison.batches, " batches") : "", ": relative L2 difference\n");
  for (const auto& [name, relative, ok] : comparison.parameters) {
    out += text("  ", name, std::string(columns - name.size(), ' '), "  ", formatted("%8.1e", relative),
                ok ? "  ok\n" : "  DIFFERS\n");
  }
  return out;
}

void require_no_difference(const std::vector<GradientComparison>& comparisons) {
  std::vector<std::string> names;
  for (const auto& comparison : comparisons)
    for (const auto& [name, relative, ok] : comparison.parameters)
      if (!ok && std::ranges::find(names, name) == names.end()) names.push_back(name);
  if (!names.empty())
    throw Bug(
        "the gradient that the ranks add up is not that of the whole batch for ", join(names),
        "; does the loss return a sum and a weight over samples, and each layer look at one sample at a "
        "time? With precision = \"64-true\" rounding is ruled out");
}

bool compares_batch_norm(const TrainerOptions& options) {
  return options.sync_batchnorm && options.accumulate_grad_batches == 1 && options.dtype() == DType::f64;
}

double gradient_tolerance(const TrainerOptions& options, std::span<const DType> types) {
  double tolerance = compares_batch_norm(options) ? 1e-9 : 1e-12;
  for (const DType type : types)
    tolerance = std::max(tolerance, type == DType::bf16  ? 2e-2
                                    : type == DType::f16 ? 2.5e-3
                                    : type == DType::f32 ? 1e-5
                                                         : 0);
  return tolerance;
}

// Those of the parameters, and of what goes between nodes.
std::vector<DType> Trainer::State::gradient_types() const {
  std::vector<DType> types;
  for (const auto& slot : parameters.slots()) types.push_back(dtype_of(slot.parameter.scalar_type()));
  if (options.gradient_compression == "bf16" && parameters.type() == torch::kFloat32)
    types.push_back(DType::bf16);
  if (options.precision == "bf16-mixed" || options.precision == "16-mixed") types.push_back(DType::bf16);
  return types;
}

// Layers as they can be compared: what is random is off, and BatchNorm is a function of one sample, unless it
// sees the same batch either way.
void Trainer::State::make_comparable() {
  plan.model.module().eval();
  if (compares_batch_norm(options)) sync->train();
}

// The mean gradient of the step's samples at once, as flat as the parameters. Does not communicate.
at::Tensor Trainer::State::gradient_at_once(int64_t step, Range positions) const {
  const BatchRequest request{static_cast<uint64_t>(step / epoch_steps), positions};
  const Batch batch =
      upload(make_batch(*context.train, plan.train.transforms, reader_options(shuffles()), request));
  const WeightedSum loss = loss_of(plan.model.forward(batch), batch);
  std::vector<at::Tensor> wanted;
  for (const auto& slot : parameters.slots()) wanted.push_back(slot.parameter);
  const auto gradients =
      torch::autograd::grad({loss.sum}, wanted, {}, std::nullopt, false, /*allow_unused=*/true);
  const torch::NoGradGuard no_grad;
  const at::Tensor flat =
      torch::zeros({parameters.size()}, at::TensorOptions(parameters.type()).device(wanted.front().device()));
  for (size_t i = 0; i < wanted.size(); ++i)
    if (gradients[i].defined()) FlatParameters::view(flat, parameters.slots()[i]).copy_(gradients[i]);
  return flat.div_(loss.weight);
}

GradientComparison Trainer::State::compare_gradients(int64_t step) {
  steps = step;
  total_steps = -1;
  reader = open_reader();
  const StepSums sums = sums_of(step);
  reader.reset();
  const int64_t first = step * numerics.accumulate * plan.batch_size;
  const int64_t count = std::min(samples - first, numerics.accumulate * plan.batch_size);
  GradientComparison comparison{step, count, batches_per_epoch(count, plan.batch_size), {}};
  agree(comm, [&] {
    if (comm.rank() != 0) return;
    const torch::NoGradGuard no_grad;
    const at::Tensor whole = [&] {
      const torch::AutoGradMode with_gradients(true);
      return gradient_at_once(step, {first, count});
    }();
    const at::Tensor difference = sums.gradients - whole;
    const double least = 0.01 * whole.norm().item<double>(),
                 tolerance = gradient_tolerance(options, gradient_types());
    for (const auto& slot : parameters.slots()) {
      const auto apart = FlatParameters::view(difference, slot).norm().item<double>();
      const auto norm = FlatParameters::view(whole, slot).norm().item<double>();
      comparison.parameters.push_back(
          {slot.name, apart == 0 ? 0 : apart / norm, apart <= tolerance * std::max(norm, least)});
    }
    std::ranges::reverse(comparison.parameters);  // the slots begin with the last one
  });
  return comparison;
}

std::vector<GradientComparison> Trainer::compare_gradients() {
  State& s = *state_;
  s.make_comparable();
  s.reducer.want({0, s.parameters.size()});
  std::vector<GradientComparison> comparisons = {s.compare_gradients(0)};
  if (s.samples % (s.numerics.accumulate * s.plan.batch_size) != 0 && s.epoch_steps > 1)
    comparisons.push_back(s.compare_gradients(s.epoch_steps - 1));
  return comparisons;
}

}  // namespace lab
