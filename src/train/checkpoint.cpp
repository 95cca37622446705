#include "lab/train/checkpoint.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "lab/core/error.h"
#include "lab/core/process.h"
#include "lab/train/safetensors.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

using Json = nlohmann::ordered_json;

class NoCheckpoints final : public CheckpointSink {
 public:
  void save(const Snapshot&) override {}
  std::optional<Best> best() const override { return std::nullopt; }
};

Json best_json(const std::optional<Best>& best) {
  if (!best) return nullptr;
  return {{"monitor", best->monitor}, {"value", best->value}, {"epoch", best->epoch}, {"step", best->step}};
}

// JSON has no NaN or infinity: such a value becomes its name.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(shortest(value)); }

std::string state_json(const Snapshot& snapshot, const std::optional<Best>& best) {
  Json values = Json::object(), callbacks = Json::array();
  for (const auto& [tag, value] : snapshot.report.values) values[tag] = number(value);
  for (const auto& [name, state] : snapshot.callbacks)
    callbacks.push_back({{"name", name}, {"state", state}});
  const Json state = {{"format", 1},
                      {"epoch", snapshot.report.epoch},
                      {"step", snapshot.report.step},
                      {"values", values},
                      {"optimizer", {{"name", snapshot.optimizer}, {"steps", snapshot.optimizer_steps}}},
                      {"callbacks", callbacks},
                      {"best", best_json(best)},
                      {"shards", nullptr}};
  return state.dump();
}

class CheckpointFolder final : public CheckpointSink {
 public:
  CheckpointFolder(std::string folder, std::string monitor, Mode mode)
      : folder_(std::move(folder)), monitor_(std::move(monitor)), mode_(mode) {}

  void save(const Snapshot& snapshot) override {
    const bool better = update_best(snapshot.report);
    if (better) write("best.safetensors", snapshot);
    write("last.safetensors", snapshot);
    write_index(snapshot.report);
  }
  std::optional<Best> best() const override { return best_; }

 private:
  bool update_best(const EpochReport& report) {
    if (monitor_.empty()) return false;
    const auto value = value_of(report.values, monitor_);
    if (!value) return false;  // not measured in this epoch
    const double sign = mode_ == Mode::min ? 1 : -1;
    if (std::isnan(*value) || (best_ && sign * *value >= sign * best_->value)) return false;
    best_ = Best{monitor_, *value, report.epoch, report.step};
    return true;
  }

  void write(const std::string& name, const Snapshot& snapshot) const {
    std::vector<at::Tensor> alive;
    std::vector<TensorView> views;
    for (const auto* list : {&snapshot.model, &snapshot.rest})
      for (const auto& [tensor_name, tensor] : *list) {
        alive.push_back(tensor.detach().contiguous());
        views.push_back({tensor_name, dtype_of(tensor.scalar_type()), tensor.sizes().vec(),
                         alive.back().const_data_ptr()});
      }
    write_safetensors(text(folder_, "/", name), views,
                      {{"format", "pt"}, {"lab", state_json(snapshot, best_)}});
  }

  void write_index(const EpochReport& report) const {
    Json files =
        Json::array({{{"file", "last.safetensors"}, {"epoch", report.epoch}, {"step", report.step}}});
    if (best_)
      files.push_back({{"file", "best.safetensors"},
                       {"epoch", best_->epoch},
                       {"step", best_->step},
                       {"monitor", best_->monitor},
                       {"value", best_->value}});
    write_file_atomically(folder_ + "/index.json",
                          Json({{"format", 1}, {"checkpoints", files}}).dump(2) + "\n");
  }

  std::string folder_, monitor_;
  Mode mode_;
  std::optional<Best> best_;
};

}  // namespace

std::unique_ptr<CheckpointSink> no_checkpoints() { return std::make_unique<NoCheckpoints>(); }

std::unique_ptr<CheckpointSink> checkpoint_folder(std::string folder, std::string monitor, Mode mode) {
  return std::make_unique<CheckpointFolder>(std::move(folder), std::move(monitor), mode);
}

namespace {

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

bool belongs_to_model(const std::string& name) { return name.rfind("lab.", 0) != 0; }

}  // namespace

void load_weights(const std::string& path, torch::nn::Module& module) {
  const SafetensorsFile file(path);
  file.verify();
  std::vector<std::string> differences;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;
  std::vector<std::string> wanted;
  for (const auto& [name, tensor] : model_tensors(module)) {
    wanted.push_back(name);
    const TensorView* view = file.find(name);
    if (!view) {
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
  for (const auto& name : file.names())
    if (belongs_to_model(name) && std::find(wanted.begin(), wanted.end(), name) == wanted.end())
      differences.push_back(
          text(name, ": ", shape_text(file.find(name)->shape), " in the file, not in the model"));
  if (!differences.empty())
    throw DataError(
        "the weights in ", path, " are of another model:", first_few(differences),
        "\ngive the weights of this model, or change the config to the one they were trained with");
  const torch::NoGradGuard no_grad;
  for (auto& [to, from] : copies) to.copy_(from);
}

}  // namespace lab
