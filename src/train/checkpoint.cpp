#include "lab/train/checkpoint.h"

#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"
#include "train/checkpoint_index.h"
#include "train/loss_module.h"
#include "train/run_state.h"
#include "train/safetensors_format.h"

namespace lab {
namespace {

class NoCheckpoints final : public CheckpointSink {
 public:
  void save(const Snapshot&) override {}
  void finish() override {}
  bool saved() const override { return true; }
  std::optional<Best> best() const override { return std::nullopt; }
};

std::string shape_text(std::span<const int64_t> shape) {
  std::vector<std::string> parts;
  for (const int64_t n : shape) parts.push_back(std::to_string(n));
  return text("(", join(parts), ")");
}

std::string first_few(const std::vector<std::string>& lines) {
  constexpr size_t most = 12;
  std::string out;
  for (size_t i = 0; i < std::min(most, lines.size()); ++i) out += text("\n  ", lines[i]);
  if (lines.size() > most) out += text("\n  and ", lines.size() - most, " more");
  return out;
}

constexpr const char* average_prefix = "lab.ema.";  // before the name of a weight

}  // namespace

std::unique_ptr<CheckpointSink> no_checkpoints() { return std::make_unique<NoCheckpoints>(); }

SavedRun read_checkpoint(const std::string& path) {
  SafetensorsFile file(path);
  const auto state = file.metadata().find("lab");
  if (!file.verify() || state == file.metadata().end())
    throw DataError(quoted(path), " holds weights, but no state of a run to go on from");
  try {
    return {run_state_from_json(state->second), std::move(file)};
  } catch (const DataError& e) {
    throw DataError(quoted(path), ": ", e.what());
  }
}

std::optional<SavedRun> newest_checkpoint(const std::string& folder, const Log& log) {
  const auto candidates = checkpoints_in(folder);
  std::string skipped;
  for (const auto& candidate : candidates) try {
      SavedRun saved = read_checkpoint(folder + "/" + candidate.file);
      if (!skipped.empty())
        log.warn("going on from the checkpoint before, ", candidate.file, ", because ", skipped);
      return saved;
    } catch (const Error& e) {
      skipped += text(skipped.empty() ? "" : "; and ", e.what());
    }
  if (!candidates.empty())
    throw DataError("none of the ", candidates.size(), " checkpoints in ", folder, " can be used: ", skipped,
                    "; bring one of them back from a copy, or start afresh without --resume");
  return std::nullopt;
}

namespace {

// What the file has of a loss's parameters, if the module has a place for them.
void append_loss(const SafetensorsFile& file, const torch::nn::Module& module,
                 std::vector<TensorView>& tensors) {
  if (!module.named_children().contains(loss_child)) return;
  for (TensorView& tensor : loss_tensors(file)) tensors.push_back(std::move(tensor));
}

void load(const std::string& path, const std::vector<TensorView>& tensors, torch::nn::Module& module) {
  std::vector<std::string> differences;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  std::vector<std::string> wanted;
  for (const auto& [name, tensor] : model_tensors(module)) {
    wanted.push_back(name);
    const auto view = std::ranges::find(tensors, name, &TensorView::name);
    if (view == tensors.end() && is_of_loss(name)) continue;  // a file without: as it was made
    if (view == tensors.end()) {
      differences.push_back(text(name, ": missing in the file, the model has ", shape_text(tensor.sizes())));
      continue;
    }
    if (tensor.sizes() != at::IntArrayRef(view->shape)) {
      differences.push_back(text(name, ": ", shape_text(view->shape), " in the file, ",
                                 shape_text(tensor.sizes()), " in the model"));
      continue;
    }
    copies.emplace_back(tensor, torch::empty(view->shape, scalar_type(view->type)));
    std::memcpy(copies.back().second.mutable_data_ptr(), view->data, copies.back().second.nbytes());
  }
  for (const auto& view : tensors)
    if (std::ranges::find(wanted, view.name) == wanted.end())
      differences.push_back(text(view.name, ": ", shape_text(view.shape), " in the file, not in the model"));
  if (!differences.empty())
    throw DataError(
        "the weights in ", path, " are of another model:", first_few(differences),
        "\ngive the weights of this model, or change the config to the one they were trained with");
  const torch::NoGradGuard no_grad;
  for (auto& [to, from] : copies) to.copy_(from);
}

}  // namespace

void load_weights(const SafetensorsFile& file, torch::nn::Module& module) {
  std::vector<TensorView> tensors;
  for (const auto& name : file.names())
    if (detail::belongs_to_model(name)) tensors.push_back(*file.find(name));
  append_loss(file, module, tensors);
  load(file.path(), tensors, module);
}

void load_weights(const WeightsFile& file, torch::nn::Module& module) {
  load(file.path(), weights_for(file, module), module);
}

bool has_average(const WeightsFile& file) {
  const SafetensorsFile* labs = file.safetensors();
  return labs && std::ranges::any_of(
                     labs->names(), [](const std::string& name) { return name.starts_with(average_prefix); });
}

bool validated_average(const WeightsFile& file) {
  const SafetensorsFile* labs = file.safetensors();
  if (!labs) return false;
  const auto state = labs->metadata().find("lab");
  if (state == labs->metadata().end()) return false;
  try {
    return run_state_from_json(state->second).averaged;
  } catch (const DataError&) {  // another version's: its weights may be taken all the same
    return false;
  }
}

void load_average(const WeightsFile& file, torch::nn::Module& module) {
  if (!has_average(file))
    throw DataError(quoted(file.path()), " has no average of the weights; take a checkpoint of a run whose ",
                    "plan has an ema, or predict with the weights themselves");
  std::vector<TensorView> tensors = weights_for(file, module);
  for (TensorView& tensor : tensors)
    if (const TensorView* average = file.safetensors()->find(average_prefix + tensor.name)) {
      const std::string name = tensor.name;
      tensor = *average;
      tensor.name = name;
    }
  load(file.path(), tensors, module);
}

std::vector<TensorView> weights_for(const WeightsFile& file, const torch::nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : model_tensors(module))
    if (!is_of_loss(name)) names.push_back(name);
  auto tensors = file.model(without_common_prefixes(names) != names);
  if (file.safetensors()) append_loss(*file.safetensors(), module, tensors);
  return tensors;
}

}  // namespace lab
