#include "lab/train/sharded_optimizer.h"

#include <torch/types.h>

#include <algorithm>

#include "lab/core/errand.h"
#include "lab/train/tensor_buffer.h"

namespace lab {
namespace {

constexpr int64_t page_bytes = 4096;  // parts that begin at pages lie one behind the other

}  // namespace

ShardedOptimizer::ShardedOptimizer(const OptimizerPlan& plan, FlatParameters& parameters, Communicator& comm,
                                   Sharding sharding)
    : comm_(comm), parameters_(parameters), sharding_(sharding), part_(parameters.size()) {
  if (sharding_ == Sharding::zero1) share_parameters();
  optimizer_ = make_optimizer(plan, own(parameters_.values()));
}

Range ShardedOptimizer::part_of(int rank) const {
  if (sharding_ == Sharding::none) return {0, parameters_.size()};
  const int64_t first = std::min(rank * part_, parameters_.size());
  return {first, std::min(part_, parameters_.size() - first)};
}

at::Tensor ShardedOptimizer::own(const at::Tensor& flat) const {
  const Range mine = part_of(comm_.rank());
  return flat.narrow(0, mine.first, mine.count);
}

void ShardedOptimizer::share_parameters() {
  const Errand errand("parameters");
  const int64_t size = parameters_.size(), bytes = parameters_.values().element_size(), ranks = comm_.size();
  const int64_t unit = page_bytes / bytes;
  part_ = (size + ranks * unit - 1) / (ranks * unit) * unit;
  memory_ = comm_.allocate(part_ * bytes);
  const Buffer mine{memory_.data.get(), part_, dtype_of(parameters_.values().scalar_type())};
  const auto seen = comm_.view({&mine, 1});
  std::byte* flat = nullptr;
  if (!seen.empty()) {
    comm_.barrier();
    flat = static_cast<std::byte*>(seen[0][0].data);
    one_copy_ = true;
    for (int r = 0; r < comm_.size(); ++r)
      if (seen[static_cast<size_t>(r)][0].data != flat + r * part_ * bytes) one_copy_ = false;
  }
  if (!one_copy_) {
    memory_ = comm_.allocate(part_ * bytes * ranks);
    flat = memory_.data.get();
  }
  parameters_.move_to(torch::from_blob(
      flat, {size}, [held = memory_.data](void*) {}, parameters_.values().options()));
  comm_.barrier();  // all have moved in, each with the same values
}

void ShardedOptimizer::step(const at::Tensor& gradients, const at::Tensor& divisor, double rate) {
  at::Tensor values = own(parameters_.values()), sums = own(gradients);
  if (values.numel() > 0)
    optimizer_->step(values, sums, divisor, rate);
  else
    optimizer_->set_steps(steps() + 1);
  parameters_.round(part_of(comm_.rank()));
  if (sharding_ == Sharding::none) return parameters_.refresh();
  const Errand errand("parameters");
  if (one_copy_)
    comm_.barrier();
  else
    comm_.all_gather({memory_.data.get(), part_ * comm_.size(), as_buffer(values).type});
  parameters_.refresh();
}

std::vector<std::string> ShardedOptimizer::state_names() const {
  std::vector<std::string> names;
  for (const auto& [name, part] : optimizer_->flat_state()) names.push_back(name);
  return names;
}

std::vector<NamedTensor> ShardedOptimizer::state_on_rank_0() const {
  const Errand errand("optimizer state");
  std::vector<NamedTensor> all;
  for (const auto& [name, part] : optimizer_->flat_state()) {
    if (sharding_ == Sharding::none) {
      all.push_back({name, comm_.rank() == 0 ? part : at::Tensor()});
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
  for (const auto& [own_name, part] : optimizer_->flat_state())
    if (own_name == name && here.count > 0)
      part.narrow(0, here.first - mine.first, here.count)
          .copy_(values.flatten().narrow(0, here.first - elements.first, here.count));
}

}  // namespace lab
