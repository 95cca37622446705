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
// bytes. The gaps are zero and stay so. The tensor's type is the least one of 32 or 64 bits that holds all of
// theirs. A parameter of a narrower type keeps a tensor of its own; what the flat one has for it is the same
// numbers, so that nothing is in it which the parameter doesn't show. Who changes the flat tensor calls
// round() and refresh(). The module must not be moved or cast afterwards. Same on every rank; never
// communicates.
//
// channels_last: the weights of the model's Conv2d and ConvTranspose2d lie so that their inner elements are
// those of one pixel's channels, as torch's memory format of that name. What such a layer makes then lies so
// too, and layers behind it follow. Shapes and values are the same.
class FlatParameters {
 public:
  // Throws ConfigError when none is trainable, or one is not of f16, bf16, f32 or f64.
  explicit FlatParameters(torch::nn::Module& module, bool channels_last = false);

  struct Slot {
    std::string name;
    at::Tensor parameter;
    Range elements;  // in the flat tensor, without the gap
    bool channels_last = false;
  };
  const std::vector<Slot>& slots() const { return slots_; }
  at::Tensor& values() { return values_; }
  int64_t size() const { return values_.numel(); }
  at::ScalarType type() const { return values_.scalar_type(); }
  // From now on the parameters are in `flat`, as long as values(); their values move along. Its gaps must be
  // zeros.
  void move_to(const at::Tensor& flat);
  // Those of these flat elements that belong to parameters of a narrower type become what it can hold.
  void round(Range elements);
  // Such parameters become what the flat tensor, which was rounded, has for them.
  void refresh();
  // Another flat tensor's view for one slot, in the parameter's shape.
  static at::Tensor view(const at::Tensor& flat, const Slot& slot);
  // A tensor of the parameter's shape as 1-D, in the order that the slot's elements have.
  static at::Tensor in_order(const at::Tensor& tensor, const Slot& slot);

 private:
  bool is_narrower(const Slot& slot) const;
  std::vector<Slot> slots_;
  at::Tensor values_;
};

// The same order for a model that is not trained, and keeps its weights to itself.
void order_channels_last(torch::nn::Module& module);

// The module's floating buffers (BatchNorm's running statistics) as views of one flat tensor per type;
// integer ones stay where they are. Each leaf of a step has its own set, so that sets evolve the same
// whatever rank computes them.
class FlatBuffers {
 public:
  explicit FlatBuffers(torch::nn::Module& module);
  const std::vector<at::Tensor>& values() const { return values_; }  // 1-D, the module's current ones
  int64_t count() const;                                             // of floats
  const std::vector<NamedTensor>& integers() const { return integers_; }

 private:
  std::vector<at::Tensor> values_;
  std::vector<NamedTensor> integers_;
};

// All parameters and buffers by name, those of frozen layers too, as a checkpoint holds them. A tensor that
// is registered twice is named twice.
std::vector<NamedTensor> model_tensors(const torch::nn::Module& module);

// Gives every rank rank 0's parameters and buffers. Every rank must call, with modules of the same shapes.
void broadcast_model(Communicator& comm, torch::nn::Module& module);

}  // namespace lab
