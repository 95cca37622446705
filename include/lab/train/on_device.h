#pragma once
// The way of tensors to where a model computes, and of numbers back. On CPUs there is none.

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>

#include "lab/data/reader.h"
#include "lab/device/device.h"
#include "lab/train/parts.h"

namespace lab {

at::Device torch_device(const Device& device);

// Brings batches to the device, on a stream of its own from page-locked memory: beside what is computed,
// which waits for them, while the host does not. One thread.
class Upload {
 public:
  explicit Upload(const Device& device);
  // The reader's options, with the memory that it is to make batches in.
  ReaderOptions from(ReaderOptions options) const;
  // On CPUs tensors over the same memory.
  Batch operator()(HostBatch&& host) const;
  at::Device device() const { return device_; }

 private:
  at::Device device_;
  std::optional<c10::Stream> stream_;  // none on CPUs
};

// Numbers that the device will have made when it has done what it was given so far. One thread.
class Arriving {
 public:
  explicit Arriving(const at::Tensor& numbers);  // 1-D, f64
  const double* wait();                          // valid as long as this

 private:
  at::Tensor numbers_;               // the host's
  std::optional<c10::Event> event_;  // behind the copy; none on CPUs
};

// Memory for tensors like this one, from or to which its device copies beside the host; contiguous.
at::Tensor host_memory_like(const at::Tensor& tensor);
// Until all that the device was given is done; nothing on CPUs.
void await(at::Device device);
// The most memory that this process's tensors took there at once, in bytes; 0 on CPUs.
int64_t most_memory(at::Device device);

}  // namespace lab
