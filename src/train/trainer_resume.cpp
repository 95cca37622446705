// Where a run is, as a checkpoint, and back.

#include <torch/types.h>

#include <array>
#include <cstring>

#include "lab/comm/agreement.h"
#include "lab/core/errand.h"
#include "lab/core/error.h"
#include "lab/train/tensor_buffer.h"
#include "train/loss_module.h"
#include "train/run_state.h"
#include "train/trainer_state.h"

namespace lab {
namespace {

// A parameter's part of what the optimizer keeps.
std::string saved_name(const std::string& state, const std::string& parameter) {
  const bool average = state == ShardedOptimizer::average_name;
  return text(average ? "lab." : "lab.optimizer.", state, '.', parameter);
}

}  // namespace

Snapshot Trainer::State::snapshot() {
  Snapshot snapshot;
  const at::Tensor sets = buffers.gathered(comm);
  buffers.combine_into_module(sets);
  snapshot.state = {epoch(), steps, epoch_finished, done.values, optimizer.name(), optimizer.steps()};
  if (within_epoch()) snapshot.state.epoch_steps = epoch_steps;
  snapshot.state.averaged = plan.ema && plan.ema->validate;
  for (auto& tensor : model_tensors(plan.model.module()))
    if (is_of_loss(tensor.name))
      snapshot.rest.push_back({saved_name_of_loss(tensor.name), tensor.tensor});
    else
      snapshot.model.push_back(std::move(tensor));
  for (const auto& [name, flat] : optimizer.state_on_rank_0())
    for (const auto& slot : parameters.slots())
      if (flat.defined())
        snapshot.rest.push_back({saved_name(name, slot.name), FlatParameters::view(flat, slot)});
  snapshot.rest.push_back({"lab.buffers", sets});
  if (within_epoch()) snapshot.rest.push_back({"lab.train_sums", train_sums.gathered(comm)});
  if (loss_scale) snapshot.rest.push_back({"lab.loss_scale", loss_scale->state()});
  if (!time_is_over) snapshot.state.stopped_by = done.stopped_by;
  for (const auto& callback : plan.callbacks)
    snapshot.state.callbacks.emplace_back(callback->name(), callback->state());
  return snapshot;
}

// For roll_back(): the weights as they are now, and what belongs to them.
void Trainer::State::keep() {
  if (!rolls_back()) return;
  auto tensors = optimizer.changed_here();
  tensors.push_back(buffers.sets());
  kept.emplace(Kept{steps, optimizer.steps(), 0, Undo(std::move(tensors))});
}

// A step's sums were not finite: all that was learned since the last checkpoint is given up, and the run goes
// on with the samples behind that step. The same again on the same weights is not tried for ever.
void Trainer::State::roll_back(const std::string& why) {
  constexpr int64_t most = 3;
  if (++kept->used > most)
    throw AgreedError(ExitCode::bad_data, text("the run was set back to step ", kept->step, " ", most,
                                               " times, and again: ", why));
  kept->tensors.all();  // which nobody reads any more: all have agreed on what was not finite
  optimizer.were_changed(kept->optimizer_steps);
  for (Launched& launched : in_flight) launched.given_up = true;
  context.log.warn("the weights are again those of step ", kept->step,
                   "; the run goes on with the samples of step ", steps, ": ", why);
}

void Trainer::State::save() {
  keep();
  if (!options.enable_checkpointing) return;
  for (const auto& recorder : context.recorders) recorder->checkpoint_started();
  const Snapshot now = snapshot();
  agree(comm, [&] { context.checkpoints.save(now); });
  save_due = false;
  saved_at = Clock::now();
  for (const auto& recorder : context.recorders) recorder->checkpoint_taken(steps);
}

// Waits for what is still being written.
void Trainer::State::finish_saving() {
  for (const auto& recorder : context.recorders) recorder->checkpoint_started();
  agree(comm, [&] { context.checkpoints.finish(); });
  int64_t saved = context.checkpoints.saved();
  comm.all_reduce({&saved, 1, DType::i64}, ReduceOp::min);
  done.saved = saved != 0;
}

// A tensor of the checkpoint that rank 0 has, on every rank.
at::Tensor Trainer::State::saved_tensor(const std::string& name) const {
  const Errand errand("checkpoint");
  std::vector<int64_t> header(10, 0);  // type, dimensions, sizes
  at::Tensor tensor;
  agree(comm, [&] {
    if (comm.rank() != 0) return;
    const TensorView* view = context.resume->file.find(name);
    if (!view || view->shape.size() > header.size() - 2)
      throw DataError(quoted(context.resume->file.path()), " lacks ", name,
                      ", which this run's state needs; go on with the config it was written with");
    header[0] = static_cast<int64_t>(view->type);
    header[1] = std::ssize(view->shape);
    std::copy(view->shape.begin(), view->shape.end(), header.begin() + 2);
    tensor = torch::empty(view->shape, scalar_type(view->type));
    std::memcpy(tensor.mutable_data_ptr(), view->data, tensor.nbytes());
  });
  comm.broadcast({header.data(), std::ssize(header), DType::i64}, 0);
  const at::IntArrayRef shape(header.data() + 2, static_cast<size_t>(header[1]));
  if (comm.rank() != 0) tensor = torch::empty(shape, scalar_type(static_cast<DType>(header[0])));
  const Buffer buffer = as_buffer(tensor);
  comm.broadcast({buffer.data, buffer.bytes(), DType::u8}, 0);
  return tensor;
}

// The first of a name gets what the first of that name had, and so on.
void Trainer::State::restore_callbacks(const std::vector<std::pair<std::string, std::string>>& saved) {
  std::vector<bool> taken(saved.size(), false);
  for (const auto& callback : plan.callbacks)
    for (size_t i = 0; i < saved.size(); ++i)
      if (!taken[i] && saved[i].first == callback->name()) {
        callback->restore(saved[i].second);
        taken[i] = true;
        break;
      }
}

// Goes on from the checkpoint that rank 0 was given, if it was given one. The weights are in the module
// already.
void Trainer::State::restore() {
  const std::string json =
      broadcast_bytes(comm, context.resume ? to_json(context.resume->state) : std::string());
  if (json.empty()) return;
  // Whether another run's; whether there are buffers of each leaf: other programs have none, and all leaves
  // then begin with the module's; whether there is an average of the weights, which else begins with them.
  const std::string averaged = saved_name(ShardedOptimizer::average_name, parameters.slots().front().name);
  const auto has = [&](const std::string& name) { return context.resume && context.resume->file.find(name); };
  std::array<int64_t, 4> flags = {context.begins, has("lab.buffers"), has(averaged), has("lab.loss_scale")};
  comm.broadcast({flags.data(), std::ssize(flags), DType::i64}, 0);
  const torch::NoGradGuard no_grad;
  const RunState state = run_state_from_json(json);
  steps = state.step;
  epoch_finished = state.epoch_finished;
  done.values = state.values;
  done.stopped_by = state.stopped_by;
  agree(comm, [&] {
    if (state.optimizer != optimizer.name())
      throw ConfigError("the checkpoint is of a run with ", state.optimizer, ", this one has ",
                        optimizer.name(), "; go on with the config it was written with");
    restore_callbacks(state.callbacks);
  });
  optimizer.set_steps(state.optimizer_steps);
  optimizer.begin_average();
  for (const std::string& name : optimizer.state_names())
    for (const auto& slot : parameters.slots())
      if (name != ShardedOptimizer::average_name || flags[2] != 0)
        optimizer.restore_state(name, slot.elements,
                                FlatParameters::in_order(saved_tensor(saved_name(name, slot.name)), slot));
  const at::Tensor saved_buffers = flags[1] != 0 ? saved_tensor("lab.buffers") : at::Tensor();
  const at::Tensor saved_sums = within_epoch() ? saved_tensor("lab.train_sums") : at::Tensor();
  if (loss_scale && flags[3] != 0) loss_scale->restore(saved_tensor("lab.loss_scale"));
  agree(comm, [&] {
    if (saved_buffers.defined()) buffers.restore(saved_buffers);
    if (saved_sums.defined()) train_sums.restore(saved_sums, leaves_of(numerics, comm.rank(), comm.size()));
  });
  if (flags[0] != 0 && steps == 0) epoch_finished = false;
  validates_first = validates_first && (flags[0] != 0 || (steps == 0 && !epoch_finished));
}

}  // namespace lab
