#pragma once
// The optimizer of a run: each rank updates all parameters, or a part of them for all ranks.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/ema.h"
#include "lab/train/flat.h"
#include "lab/train/optimizer.h"
#include "lab/train/parameter_groups.h"

namespace lab {

enum class Sharding {
  ddp,    // each rank has the whole state and updates all parameters; but where all ranks are on one node and
          // see each other's memory, the node has parameters and state once, and each rank updates its part
  zero1,  // each has an equal part, everywhere: Rajbhandari et al., "ZeRO: memory optimizations toward
          // training trillion parameter models", 2020, stage 1
};

// The bits, and the checkpoints, are the same whoever updates what. Where parts are updated, the parameters
// move into memory that ranks share: on one node there is one copy, of which each rank writes its part;
// elsewhere each has a copy, and gets the others' parts after each update. The parameters must outlive it.
// One thread.
class ShardedOptimizer {
 public:
  // Collective. The parameters must be the same on all ranks.
  ShardedOptimizer(const OptimizerGroups& groups, FlatParameters& parameters, Communicator& comm,
                   Sharding sharding, const std::optional<Ema>& ema = {});

  // What this rank updates: all parameters, or its part, which begins at a multiple of part_unit.
  Range part() const { return part_of(comm_.rank()); }

  // One update, with gradients (1-D, as long as the parameters, of which this rank's part counts; may be
  // overwritten) divided by `divisor` (scalar tensor of f32; undefined: 1), unless `skip` is 1, and with the
  // learning rate of each group, as Optimizer::step. Collective: the others' parts are there when it returns.
  void step(const at::Tensor& gradients, const at::Tensor& divisor, const at::Tensor& skip,
            const std::vector<double>& rates);

  // The parameters become their average (Ema), and the average what they were. Twice: all is as before, to
  // the bit. Collective.
  void exchange_with_average();
  // The average begins anew, as the parameters are now.
  void begin_average();

  // The state in the names of checkpoints, and the average as average_name, each as long as the parameters;
  // undefined tensors on ranks but 0. It may be the optimizer's own, which goes on to change with the next
  // step. Collective.
  std::vector<NamedTensor> state_on_rank_0() const;
  std::vector<std::string> state_names() const;
  // What the updates of this rank change: its part of the parameters, and what it keeps of them.
  std::vector<at::Tensor> changed_here() const;
  // These were changed from outside, on all ranks, and are as they were after `steps` updates. Collective.
  void were_changed(int64_t steps);
  // One of the steps that were done was skipped: it does not count.
  void was_skipped() { --steps_; }
  void restore_state(const std::string& name, Range elements, const at::Tensor& values);

  std::string name() const { return optimizer_->name(); }
  int64_t steps() const { return steps_; }  // updates done, without those of which was_skipped() has told
  void set_steps(int64_t steps);

  static constexpr const char* average_name = "ema";

 private:
  Range part_of(int rank) const;
  bool share_parameters();
  void copy_parameters();
  at::Tensor in_shared_memory();
  at::Tensor make_state();
  at::Tensor own(const at::Tensor& flat) const;
  std::vector<std::pair<std::string, at::Tensor>> kept() const;
  void share_parts();

  Communicator& comm_;
  FlatParameters& parameters_;
  bool parted_ = false;             // each rank updates a part
  bool one_copy_ = false;           // of parameters and state, which all ranks see
  int64_t part_ = 0;                // elements of each rank's part; the last ones may have fewer, or none
  std::vector<at::Tensor> states_;  // with one copy: whole
  std::unique_ptr<Optimizer> optimizer_;  // of this rank's part
  std::optional<WeightAverage> average_;  // likewise
  int64_t steps_ = 0;
};

}  // namespace lab
