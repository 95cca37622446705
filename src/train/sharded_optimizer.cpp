#include "lab/train/sharded_optimizer.h"

#include <torch/types.h>

#include <algorithm>

#include "lab/core/errand.h"
#include "lab/train/step_plan.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

// So that the ranks' parts lie one behind the other in shared memory, they are whole pages.
static_assert(part_unit % 4096 == 0);

}  // namespace

ShardedOptimizer::ShardedOptimizer(const OptimizerGroups& groups, FlatParameters& parameters,
                                   Communicator& comm, Sharding sharding, const std::optional<Ema>& ema)
    : comm_(comm), parameters_(parameters), part_(parameters.size()) {
  if (comm.size() > 1) {
    part_ = (part_ + comm.size() * part_unit - 1) / (comm.size() * part_unit) * part_unit;
    parted_ = one_copy_ = share_parameters();
    if (!one_copy_ && sharding == Sharding::zero1) {
      copy_parameters();
      parted_ = true;
    }
  }
  optimizer_ = make_optimizer(groups.plans, within(groups.stretches, part()), own(parameters_.values()),
                              [this] { return make_state(); });
  if (ema) average_.emplace(*ema, make_state(), own(parameters_.values()));
}

Range ShardedOptimizer::part_of(int rank) const {
  if (!parted_) return {0, parameters_.size()};
  const int64_t first = std::min(rank * part_, parameters_.size());
  return {first, std::min(part_, parameters_.size() - first)};
}

at::Tensor ShardedOptimizer::own(const at::Tensor& flat) const {
  const Range mine = part();
  return flat.narrow(0, mine.first, mine.count);
}

// Zeros, as long as the parameters: each rank's part lies in its own memory, and all see one tensor.
// Undefined, on all ranks alike, where they do not see each other's memory.
at::Tensor ShardedOptimizer::in_shared_memory() {
  const int64_t bytes = part_ * parameters_.values().element_size();
  const BufferMemory memory = comm_.allocate(bytes);
  const Buffer mine{memory.data.get(), part_, dtype_of(parameters_.values().scalar_type())};
  const auto seen = comm_.view({&mine, 1});
  if (seen.empty()) return {};
  comm_.barrier();
  auto* flat = static_cast<std::byte*>(seen[0][0].data);
  for (int r = 0; r < comm_.size(); ++r)
    if (seen[static_cast<size_t>(r)][0].data != flat + r * bytes) return {};
  return torch::from_blob(
      flat, {parameters_.size()}, [held = memory.data](void*) {}, parameters_.values().options());
}

bool ShardedOptimizer::share_parameters() {
  const Errand errand("parameters");
  const at::Tensor shared = in_shared_memory();
  if (!shared.defined()) return false;
  parameters_.move_to(shared);
  comm_.barrier();  // all have moved in, each with the same values
  return true;
}

// So that the parts of all ranks lie one behind the other, for all_gather().
void ShardedOptimizer::copy_parameters() {
  const Errand errand("parameters");
  const auto options = parameters_.values().options();
  const BufferMemory memory = comm_.allocate(part_ * parameters_.values().element_size() * comm_.size());
  parameters_.move_to(torch::from_blob(
      memory.data.get(), {parameters_.size()}, [held = memory.data](void*) {}, options));
}

at::Tensor ShardedOptimizer::make_state() {
  const Errand errand("optimizer state");
  if (one_copy_)
    if (const at::Tensor shared = in_shared_memory(); shared.defined()) {
      states_.push_back(shared);
      return own(shared);
    }
  return torch::zeros_like(own(parameters_.values()));
}

void ShardedOptimizer::step(const at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
                            const std::vector<double>& rates) {
  at::Tensor values = own(parameters_.values()), sums = own(gradients);
  if (values.numel() > 0)
    optimizer_->step(values, sums, divisor, skip, rates);
  else
    optimizer_->set_steps(steps_ + 1);
  parameters_.round(part());
  ++steps_;
  if (average_) average_->update(values, skip, steps_);
  share_parts();
}

// All ranks see what each has made of its part.
void ShardedOptimizer::share_parts() {
  const Errand errand("parameters");
  if (one_copy_)
    comm_.barrier();
  else if (parted_)
    comm_.all_gather({parameters_.values().data_ptr(), part_ * comm_.size(), dtype_of(parameters_.type())});
  parameters_.refresh();
}

void ShardedOptimizer::exchange_with_average() {
  if (one_copy_) {
    const Errand errand("parameters");
    comm_.barrier();  // nobody reads them any more
  }
  at::Tensor values = own(parameters_.values());
  average_->exchange(values);
  share_parts();
}

void ShardedOptimizer::begin_average() {
  if (average_) average_->begin(own(parameters_.values()));
}

void ShardedOptimizer::set_steps(int64_t steps) {
  optimizer_->set_steps(steps);
  steps_ = steps;
}

std::vector<std::pair<std::string, at::Tensor>> ShardedOptimizer::kept() const {
  auto all = optimizer_->flat_state();
  if (average_) all.emplace_back(average_name, average_->values());
  return all;
}

std::vector<at::Tensor> ShardedOptimizer::changed_here() const {
  std::vector<at::Tensor> all = {own(parameters_.values())};
  for (const auto& [name, part] : kept()) all.push_back(part);
  return all;
}

void ShardedOptimizer::were_changed(int64_t steps) {
  set_steps(steps);
  share_parts();
}

std::vector<std::string> ShardedOptimizer::state_names() const {
  std::vector<std::string> names;
  for (const auto& [name, part] : kept()) names.push_back(name);
  return names;
}

std::vector<NamedTensor> ShardedOptimizer::state_on_rank_0() const {
  const Errand errand("optimizer state");
  std::vector<NamedTensor> all;
  const auto parts = kept();
  const bool seen_whole = states_.size() == parts.size();
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& [name, part] = parts[i];
    if (!parted_ || seen_whole) {
      const at::Tensor& whole = seen_whole ? states_[i] : part;
      all.push_back({name, comm_.rank() == 0 ? whole : at::Tensor()});
      continue;
    }
    std::vector<Message> sends, receives;
    at::Tensor whole;
    if (comm_.rank() == 0) {
      whole = torch::empty({parameters_.size()}, part.options());
      own(whole).copy_(part);
      for (int r = 1; r < comm_.size(); ++r) {
        const Range theirs = part_of(r);
        if (theirs.count > 0) receives.push_back({r, as_buffer(whole).slice(theirs.first, theirs.count)});
      }
    } else if (part.numel() > 0) {
      sends.push_back({0, as_buffer(part)});
    }
    comm_.exchange(sends, receives);
    all.push_back({name, whole});
  }
  return all;
}

void ShardedOptimizer::restore_state(const std::string& name, Range elements, const at::Tensor& values) {
  const Range mine = part_of(comm_.rank()), here = overlap(elements, mine);
  for (const auto& [own_name, part] : kept())
    if (own_name == name && here.count > 0)
      part.narrow(0, here.first - mine.first, here.count)
          .copy_(values.flatten().narrow(0, here.first - elements.first, here.count));
}

}  // namespace lab
