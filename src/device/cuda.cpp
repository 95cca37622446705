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
    gpus.push_back({Device::Kind::cuda, i, text("GPU ", i, ", ", properties.name)});
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
  void* memory = nullptr;
  const auto size = static_cast<size_t>(bytes);
  check(cudaMalloc(&memory, size), "cudaMalloc of ", bytes, " bytes");
  std::shared_ptr<std::byte> owned(static_cast<std::byte*>(memory), [](std::byte* p) { cudaFree(p); });
  check(cudaMemsetAsync(memory, 0, size, stream_of(compute_stream())), "cudaMemset of ", bytes, " bytes");
  return owned;
}

bool on_device(const void* memory) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, memory) == cudaSuccess)
    return attributes.type == cudaMemoryTypeDevice;
  cudaGetLastError();  // no driver: nothing is
  return false;
}

}  // namespace lab
