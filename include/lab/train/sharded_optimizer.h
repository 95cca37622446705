#pragma once
// The optimizer of a run: each rank updates all parameters, or a part of them for all ranks.

#include <memory>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/flat.h"
#include "lab/train/optimizer.h"

namespace lab {

enum class Sharding {
  none,   // each rank has the whole state, and updates all parameters
  zero1,  // each has an equal part: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion
          // parameter models", 2020, stage 1
};

// With zero1 the parameters move into memory that ranks share: where all of them are on one node there is one
// copy, of which each rank writes its part; elsewhere each has a copy, and gets the others' parts after each
// update. The bits are those of no sharding. The parameters must outlive it. One thread.
class ShardedOptimizer {
 public:
  // Collective with zero1. The parameters must be the same on all ranks.
  ShardedOptimizer(const OptimizerPlan& plan, FlatParameters& parameters, Communicator& comm,
                   Sharding sharding);

  // One update, with gradient sums (1-D, as long as the parameters; may be overwritten) divided by `divisor`
  // (scalar tensor of f32). Collective with zero1: the others' parts are there when it returns.
  void step(const at::Tensor& gradients, const at::Tensor& divisor, double rate);

  // The state in the names of checkpoints, each as long as the parameters; undefined tensors on ranks but 0.
  // Without sharding the optimizer's own, which go on to change. Collective with zero1.
  std::vector<NamedTensor> state_on_rank_0() const;
  std::vector<std::string> state_names() const;
  void restore_state(const std::string& name, Range elements, const at::Tensor& values);

  std::string name() const { return optimizer_->name(); }
  int64_t steps() const { return optimizer_->steps(); }
  void set_steps(int64_t steps) { optimizer_->set_steps(steps); }

 private:
  Range part_of(int rank) const;
  void share_parameters();
  at::Tensor own(const at::Tensor& flat) const;

  Communicator& comm_;
  FlatParameters& parameters_;
  Sharding sharding_;
  int64_t part_ = 0;     // elements of each rank's part; the last ones may have fewer, or none
  BufferMemory memory_;  // of the parameters with zero1
  bool one_copy_ = false;
  std::unique_ptr<Optimizer> optimizer_;  // of this rank's part
};

}  // namespace lab
