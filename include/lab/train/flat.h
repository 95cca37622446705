#pragma once
// The trainable parameters of a model as one flat tensor, and its buffers as another.

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/range.h"

namespace lab {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

// Moves the module's trainable parameters into one 1-D tensor, of which they become views: last registered
// first, since that is about the order in which backward makes gradients; each begins at a multiple of 64
// bytes. The gaps are zero and stay so. The module must not be moved or cast afterwards. Same on every rank;
// never communicates.
class FlatParameters {
 public:
  // Throws ConfigError when parameters differ in type or none is trainable.
  explicit FlatParameters(torch::nn::Module& module);

  struct Slot {
    std::string name;
    at::Tensor parameter;
    Range elements;  // in the flat tensor, without the gap
  };
  const std::vector<Slot>& slots() const { return slots_; }
  at::Tensor& values() { return values_; }
  int64_t size() const { return values_.numel(); }
  // From now on the parameters are in `flat`, as long as values(); their values move along. Its gaps must be
  // zeros.
  void move_to(const at::Tensor& flat);
  // Another flat tensor's view for one slot, in the parameter's shape.
  static at::Tensor view(const at::Tensor& flat, const Slot& slot);

 private:
  std::vector<Slot> slots_;
  at::Tensor values_;
};

// The module's floating buffers (BatchNorm's running statistics) as views of one flat tensor; integer ones
// stay where they are. Each leaf of a step has its own set, so that sets evolve the same whatever rank
// computes them.
class FlatBuffers {
 public:
  explicit FlatBuffers(torch::nn::Module& module);
  const at::Tensor& values() const {
    return values_;
  }  // 1-D, the module's current ones; empty when there are none
  const std::vector<NamedTensor>& integers() const { return integers_; }

 private:
  at::Tensor values_;
  std::vector<NamedTensor> integers_;
};

// All parameters and buffers by name, those of frozen layers too, as a checkpoint holds them. A tensor that
// is registered twice is named twice.
std::vector<NamedTensor> model_tensors(const torch::nn::Module& module);

// Gives every rank rank 0's parameters and buffers. Every rank must call, with modules of the same shapes.
void broadcast_model(Communicator& comm, torch::nn::Module& module);

}  // namespace lab
