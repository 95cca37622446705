#pragma once
// What a rank computes on.

#include <span>
#include <string>
#include <vector>

namespace lab {

struct Device {
  enum class Kind { cpu, cuda } kind = Kind::cpu;
  int index = 0;                 // cuda: which of the visible GPUs
  std::string description = {};  // "CPU, AVX-512" or the GPU's name
  std::string tensors = "cpu";   // where torch keeps what it computes with: "cpu", "cuda:1"
  std::string identity = {};     // cuda: of the GPU itself, the same whoever sees it
};

// GPUs that this process may use; none in a build without CUDA.
std::vector<Device> visible_gpus();

// The widest vector instructions of this processor: "AVX-512", "AVX2", ... Part of what bits a run produces.
std::string instruction_set();

// The device for `accelerator` ("auto", "cpu" or "gpu") on the local_rank-th rank of this node, which takes
// the next of the GPUs, in turn. `only`: the indices of those that may be taken; empty: all that are visible.
// Throws Unavailable when a GPU is asked for and there is none, and ConfigError when one of `only` is none.
Device choose_device(const std::string& accelerator, std::span<const int> only, int local_rank);

}  // namespace lab
