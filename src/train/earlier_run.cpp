#include "lab/train/earlier_run.h"

#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "lab/core/error.h"
#include "train/checkpoint_index.h"
#include "train/lightning_state.h"
#include "train/loss_module.h"
#include "train/run_state.h"

namespace lab {
namespace {

constexpr const char* weights_alone = "; take its weights alone, with checkpoint.weights_only = true";

// The trainable parameters of the module among the tensors, in the tensors' order.
std::vector<TensorView> trainable(const std::vector<TensorView>& tensors, const torch::nn::Module& module) {
  std::set<std::string> names;
  std::set<c10::TensorImpl*> seen;
  for (const auto& item : module.named_parameters())
    if (item.value().requires_grad() && seen.insert(item.value().unsafeGetTensorImpl()).second)
      names.insert(item.key());
  std::vector<TensorView> out;
  for (const TensorView& tensor : tensors)
    if (names.contains(tensor.name)) out.push_back(tensor);
  return out;
}

// Where so many epochs end in the new run.
void end_of_epochs(RunState& state, int64_t epochs, int64_t steps_per_epoch, const Log& log) {
  const int64_t steps = epochs * steps_per_epoch;
  if (steps != state.step)
    log.info("the earlier run took ", state.step, " steps for ", epochs, " epochs, this one takes ", steps,
             ": steps go on from there");
  if (state.best && steps != state.step) state.best->step = (state.best->epoch + 1) * steps_per_epoch;
  state.epoch = std::max<int64_t>(epochs - 1, 0);
  state.step = steps;
}

}  // namespace

EarlierRun::EarlierRun(WeightsFile file, const TrainPlan& plan, int64_t steps_per_epoch, const Log& log)
    : file_(std::move(file)) {
  load_weights(file_, plan.model.module());
  require_loss(plan);
  if (const SafetensorsFile* labs = file_.safetensors())
    take_lab(*labs, plan, steps_per_epoch, log);
  else
    take_lightning(*file_.torch(), plan, steps_per_epoch, log);
  check_optimizer(plan);
  state_.stopped_by = "";
  state_.records = {};
}

void EarlierRun::take_lab(const SafetensorsFile& file, const TrainPlan& plan, int64_t steps_per_epoch,
                          const Log& log) {
  const auto text = file.metadata().find("lab");
  if (text == file.metadata().end())
    throw DataError(quoted(file.path()), " holds weights, but no state of a run to go on from",
                    weights_alone);
  try {
    state_ = run_state_from_json(text->second);
  } catch (const DataError& e) {
    throw DataError(quoted(file.path()), ": ", e.what());
  }
  tensors_ = file_.tensors();
  // The best of a folder is a file in it.
  if (state_.best && (state_.best->monitor != plan.monitor || state_.best->step != state_.step))
    state_.best.reset();
  state_.next_best.clear();
  if (state_.best) state_.best->file.clear();
  if (!file.find("lab.train_sums")) {
    end_of_epochs(state_, state_.step == 0 ? 0 : state_.epoch + 1, steps_per_epoch, log);
  } else if (state_.epoch_steps != steps_per_epoch) {
    throw DataError(quoted(file.path()), " was saved within epoch ", state_.epoch + 1, ", at step ",
                    state_.step, "; epochs of this run have ", steps_per_epoch,
                    " steps, so there is no such place in it: take a checkpoint of the end of an epoch",
                    weights_alone);
  }
}

void EarlierRun::take_lightning(const TorchFile& file, const TrainPlan& plan, int64_t steps_per_epoch,
                                const Log& log) {
  const auto model = weights_for(file_, plan.model.module());
  auto earlier = std::make_shared<detail::LightningState>(
      detail::lightning_state(file, trainable(model, plan.model.module())));
  for (const std::string& what : earlier->left_out) log.warn(file.path(), ": not taken over is ", what);
  if (const double rate = base_rate(plan.optimizer); earlier->rate != rate)
    log.info("the earlier run began with the learning rate ", shortest(earlier->rate), ", this one has ",
             shortest(rate));
  tensors_ = model;
  tensors_.insert(tensors_.end(), earlier->tensors.begin(), earlier->tensors.end());
  state_.step = earlier->steps;
  // Adam and AdamW keep the same state.
  const std::string ours = name_of(plan.optimizer);
  state_.optimizer = earlier->optimizer == "AdamW" && ours == "Adam" ? ours : earlier->optimizer;
  state_.optimizer_steps = earlier->optimizer_steps;
  end_of_epochs(state_, earlier->epochs, steps_per_epoch, log);
  kept_ = std::move(earlier);
}

// Weights may be taken from a file without the loss's parameters, which then begin as they were made; but not
// a run.
void EarlierRun::require_loss(const TrainPlan& plan) const {
  for (const auto& [name, tensor] : model_tensors(plan.model.module()))
    if (is_of_loss(name) &&
        (!file_.safetensors() || file_.safetensors()->find(saved_name_of_loss(name)) == nullptr))
      throw DataError(quoted(file_.path()), " lacks ", saved_name_of_loss(name),
                      ", which the loss of this run has learned", weights_alone);
}

void EarlierRun::check_optimizer(const TrainPlan& plan) const {
  if (state_.optimizer != name_of(plan.optimizer))
    throw DataError(quoted(file_.path()), " is of a run with ", state_.optimizer, ", this one has ",
                    name_of(plan.optimizer), weights_alone);
  for (const std::string& part : state_names(plan.optimizer))
    for (const TensorView& parameter :
         trainable(weights_for(file_, plan.model.module()), plan.model.module())) {
      const std::string name = text("lab.optimizer.", part, ".", parameter.name);
      const auto found = std::ranges::find(tensors_, name, &TensorView::name);
      if (found == tensors_.end() || found->shape != parameter.shape)
        throw DataError(quoted(file_.path()), " lacks ", name, ", which ", name_of(plan.optimizer),
                        " needs to go on", weights_alone);
    }
}

SavedRun EarlierRun::begin_in(const std::string& folder) const {
  const std::string path = folder + "/" + checkpoint_name(state_.epoch, state_.step);
  write_safetensors(path, tensors_, {{"format", "pt"}, {"lab", to_json(state_)}});
  if (state_.best && state_.best->step == state_.step) {
    const std::string best = folder + "/best.safetensors";
    std::error_code problem;
    unlink(best.c_str());
    std::filesystem::copy_file(path, best, problem);
    if (problem)
      throw IoError("cannot write ", best, ": ", problem.message(),
                    "; check the folder's rights and free space");
  }
  return read_checkpoint(path);
}

}  // namespace lab
