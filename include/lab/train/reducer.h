#pragma once
// Sums gradients over micro-batches and ranks while backward still runs.

#include <memory>

#include "lab/comm/communicator.h"
#include "lab/train/flat.h"
#include "lab/train/loss.h"
#include "lab/train/step_plan.h"

namespace lab {

// What ranks tell each other along with a step's gradients, so that all know it at the same step without a
// collective of its own: how many of them ask for it.
struct StepNotes {
  double stop = 0;       // to save and stop
  double interrupt = 0;  // the same, by SIGINT
  double save = 0;       // to save and go on
  double over = 0;       // to end, as the time is over
};

// What is known of a step's sums.
struct StepFacts {
  double loss_sum = 0, loss_weight = 0;
  StepNotes notes;     // of all ranks
  double norm = 0;     // L2, of the gradients of all ranks; on CPUs only with Options::norm
  bool finite = true;  // all gradients, the loss and the weight
};
StepFacts step_facts(const double* numbers);  // StepSums::facts

// What a step's reduction leaves behind, on the parameters' device, the same on every rank that wants the
// same part.
struct StepSums {
  at::Tensor gradients;    // 1-D, as long as the flat parameters: sums, divided by the loss's weight
  Range part;              // the elements of them that are that; others are undefined
  at::Tensor facts;        // 1-D, f64
  at::Tensor norm;         // the one of the facts; a scalar
  at::Tensor skip;         // 1 when the facts are not finite, else 0; a scalar of f32
  StepFacts told() const;  // waits for the device
};

// Owns where gradients live. Per step: arm() for each micro-batch, then that micro-batch's backward (several
// for several losses), then finish(). Hooks on the parameters take each gradient as backward makes it, and in
// the last micro-batch hand each bucket to the communicator's lane as soon as it and all before it are whole
// (or all of them in finish()). The order is one on all ranks: at first the reverse of the model's, from the
// second step on that in which rank 0's first backward made buckets whole. A parameter without gradient
// counts as zeros and is named once in unused(). Every rank must call the same arm(last) and finish();
// between the last arm() and the end of finish() nobody else may use the communicator. Not copyable; one
// thread.
class GradientReducer {
 public:
  struct Options {
    Numerics numerics;
    double bucket_cap_mb = 25;
    bool during_backward = true;  // false: layers use the communicator until backward has ended
    bool norm = false;            // see StepFacts
    // Between nodes gradients of f32 travel as bf16 (Communicator::all_reduce_bf16). Ordinary numerics only.
    bool bf16_between_nodes = false;
  };
  // Collective; AgreedError where the ranks' plans of buckets differ.
  GradientReducer(Communicator& comm, FlatParameters& parameters, const Options& options);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // This rank updates only so many parameters, in which each step's sums may end: where the ranks of a group
  // see each other's memory each then adds up its own part alone, once backward has ended. Parts begin at
  // multiples of part_unit elements. Collective; for the steps to come.
  void want(Range part);

  // Call after the loss is known and before its backward. An empty micro-batch is armed with an undefined sum
  // and has no backward. `last`: it is this rank's last one of the step. Notes add up over micro-batches.
  // `passes`: how many times its backward is called at most, which may be another number on each rank; `loss`
  // is then that of all passes together. A parameter's gradients are added in the order of the passes, and
  // are whole after so many of them; where some passes do not reach the parameter, at the next arm() or
  // finish(). One gradient more than passes is a Bug, thrown by that backward.
  void arm(const MicroBatch& micro_batch, const WeightedSum& loss, bool last, const StepNotes& notes = {},
           int passes = 1);
  StepSums finish();

  int64_t buckets() const;
  const std::vector<std::string>& unused() const;  // parameters that got no gradient in the first step

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lab
