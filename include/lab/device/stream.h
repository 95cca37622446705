#pragma once
// Work that a device does behind the caller's back, in the order in which it was asked for it.
//
// cuda.cpp makes these of the CUDA runtime; a build without CUDA has no_cuda.cpp, where each throws
// Unavailable. Handles are the runtime's own (cudaStream_t, cudaEvent_t), for libraries that take them.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "lab/core/dtype.h"

namespace lab {

using StreamHandle = void*;
enum class Priority { normal, high };

// A queue of a GPU's work. Made and given back by one thread; the GPU is that thread's (use_gpu). What is
// queued when it is given back is still done. Throws Unavailable.
class Stream {
 public:
  explicit Stream(Priority priority);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  StreamHandle handle() const { return handle_; }

 private:
  StreamHandle handle_ = nullptr;
};

// A place in a stream's work. Recorded anew as often as one likes: the newest counts.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(StreamHandle stream);      // behind what is queued there now
  void hold(StreamHandle stream) const;  // what is queued there from now on begins when this is passed

 private:
  void* handle_ = nullptr;
};

// From now on this thread works with that one of the visible GPUs. Throws Unavailable, with the driver's
// words.
void use_gpu(int index);

// On which this thread's tensors are computed.
StreamHandle compute_stream();

// Memory of the GPU at a multiple of 256 bytes; zeros for what is queued on the compute stream from now on.
// Lives until its last copy is gone. Throws Unavailable when there is not so much.
std::shared_ptr<std::byte> device_memory(int64_t bytes);

// Whether it is a GPU's, and so not for this processor to read.
bool on_device(const void* memory);

// Of such memory, by what is queued on the compute stream: a copy, and the sums of elements of f32 or f64.
void copy_on_device(void* to, const void* from, int64_t bytes);
void add_on_device(void* sum, const void* left, const void* right, int64_t count, DType type);

}  // namespace lab
