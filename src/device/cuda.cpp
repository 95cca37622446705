#include <ATen/ops/add.h>
#include <ATen/ops/from_blob.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>

#include "lab/core/error.h"
#include "lab/device/device.h"
#include "lab/device/stream.h"

namespace lab {
namespace {

template <class... Words>
void check(cudaError_t code, const Words&... operation) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // forgets it: it has been told
  throw Unavailable("CUDA failed in ", operation..., ": ", cudaGetErrorString(code));
}

cudaStream_t stream_of(StreamHandle handle) { return static_cast<cudaStream_t>(handle); }
cudaEvent_t event_of(void* handle) { return static_cast<cudaEvent_t>(handle); }

}  // namespace

std::vector<Device> visible_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {  // no driver, or no GPU
    cudaGetLastError();
    return {};
  }
  std::vector<Device> gpus;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties of GPU ", i);
    gpus.push_back({Device::Kind::cuda, i, text("GPU ", i, ", ", properties.name), text("cuda:", i),
                    std::string(properties.uuid.bytes, sizeof properties.uuid.bytes)});
  }
  return gpus;
}

Stream::Stream(Priority priority) {
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                     priority == Priority::high ? greatest : least),
        "cudaStreamCreateWithPriority");
  handle_ = stream;
}

Stream::~Stream() { cudaStreamDestroy(stream_of(handle_)); }

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  handle_ = event;
}

Event::~Event() { cudaEventDestroy(event_of(handle_)); }

void Event::record(StreamHandle stream) {
  check(cudaEventRecord(event_of(handle_), stream_of(stream)), "cudaEventRecord");
}

void Event::hold(StreamHandle stream) const {
  check(cudaStreamWaitEvent(stream_of(stream), event_of(handle_), 0), "cudaStreamWaitEvent");
}

void use_gpu(int index) { check(cudaSetDevice(index), "cudaSetDevice(", index, ")"); }

StreamHandle compute_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

std::shared_ptr<std::byte> device_memory(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void* memory = nullptr;
  try {
    memory = c10::cuda::CUDACachingAllocator::raw_alloc(size);  // torch's, which counts it
  } catch (const c10::Error& e) {
    throw Unavailable("the GPU has no ", bytes, " bytes for gradients: ", e.what_without_backtrace());
  }
  std::shared_ptr<std::byte> owned(static_cast<std::byte*>(memory),
                                   [](std::byte* p) { c10::cuda::CUDACachingAllocator::raw_delete(p); });
  check(cudaMemsetAsync(memory, 0, size, stream_of(compute_stream())), "cudaMemset of ", bytes, " bytes");
  return owned;
}

bool on_device(const void* memory) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, memory) == cudaSuccess)
    return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  cudaGetLastError();  // no driver: nothing is
  return false;
}

void copy_on_device(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                        stream_of(compute_stream())),
        "a copy of ", bytes, " bytes");
}

void add_on_device(void* sum, const void* left, const void* right, int64_t count, DType type) {
  if (type != DType::f32 && type != DType::f64) throw Bug("sums of ", name_of(type), " on a GPU");
  const auto options = at::TensorOptions(type == DType::f32 ? at::kFloat : at::kDouble)
                           .device(at::kCUDA, c10::cuda::current_device());
  const auto tensor = [&](const void* memory) {
    return at::from_blob(const_cast<void*>(memory), {count}, options);
  };
  at::Tensor out = tensor(sum);
  at::add_out(out, tensor(left), tensor(right));
}

}  // namespace lab
