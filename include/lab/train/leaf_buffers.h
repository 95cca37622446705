#pragma once
// BatchNorm's running statistics and other buffers: one set per leaf of the step, so that each set sees the
// same batches in the same order whatever the rank count; combined for evaluation and saving without
// disturbing the sets.

#include <vector>

#include "lab/comm/communicator.h"
#include "lab/train/flat.h"

namespace lab {

// All leaves begin with the module's buffers as they are when this is made. One thread.
class LeafBuffers {
 public:
  LeafBuffers(torch::nn::Module& module, Range own_leaves, int64_t all_leaves);

  void load(int64_t leaf);                          // this leaf's set into the module, before its forward
  void store(int64_t leaf, int64_t samples);        // and back after it; samples it has just seen
  const at::Tensor& sets() const { return sets_; }  // that store() changes

  // Floating buffers: the mean of all leaves' sets, weighted by the samples each has seen, added in leaf
  // order; integer ones: the largest. Into the module; the sets stay as they are.
  void combine_into_module(const at::Tensor& gathered);

  // Every leaf's set as doubles (leaves, samples seen + floats + integers), for checkpoints. Every rank must
  // call.
  at::Tensor gathered(Communicator& comm) const;
  // Goes on from that. With another number of leaves than before, each begins with what all of them combine
  // to.
  void restore(const at::Tensor& gathered);

 private:
  int64_t width() const;
  void put_into_module(const at::Tensor& row);
  at::Tensor combined(const at::Tensor& all) const;  // a row
  FlatBuffers buffers_;
  Range own_;
  int64_t all_;
  at::Tensor sets_;  // (all leaves, width) doubles; only our own rows are used
};

}  // namespace lab
