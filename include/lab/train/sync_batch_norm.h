#pragma once
// BatchNorm over the whole batch of all ranks instead of each rank's share of it.

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "lab/comm/communicator.h"

namespace lab {

// Makes the module's torch::nn::BatchNorm1d, 2d and 3d take their statistics in training over the samples of
// all ranks, each sample counting once however they are shared; gradients through mean and variance are
// exact, and running statistics the same on all ranks. As torch.nn.SyncBatchNorm: Ioffe and Szegedy, "Batch
// normalization", 2015, over the global batch. Layers stay what they are, and so do their names and files:
// for as long as this lives, torch's batch_norm is ours where a layer of the module calls it within a
// Together, and torch's own everywhere else (in evaluation, in InstanceNorm, in other models).
//
// Communicates in the forward and the backward of each layer, on the thread that computes them, with nothing
// under way on the communicator's lane (GradientReducer::Options::during_backward). So every rank must run
// every layer in the same order: a rank without samples computes some all the same (MicroBatch::counts), and
// a model must not choose its layers by what a rank's samples are. One per process; one thread.
class SyncBatchNorm {
 public:
  // Both must outlive it.
  SyncBatchNorm(torch::nn::Module& module, Communicator& comm);
  ~SyncBatchNorm();
  SyncBatchNorm(const SyncBatchNorm&) = delete;
  SyncBatchNorm& operator=(const SyncBatchNorm&) = delete;

  void train();  // its layers, and no others, into training mode

  // For the forward of one micro-batch. Every rank must have one, then run that forward, and then its
  // backward. `counts` false: this rank's samples are no part of the statistics, and get no gradient.
  class Together {
   public:
    Together(SyncBatchNorm* layers, bool counts);  // null: does nothing
    ~Together();
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;

   private:
    SyncBatchNorm* layers_;
  };

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The names of a module's BatchNorm layers whose calls cannot be told from others: they have neither weights
// nor running statistics.
std::vector<std::string> nameless_batch_norms_of(const torch::nn::Module& module);

}  // namespace lab
