// Writes down what a process asks of the real NCCL and CUDA runtime. Preloaded:
//   LD_PRELOAD=libgpu_recorder.so LAB_CALLS_LOG=FILE program
// FILE.R, of rank R, has the lines that the stand-in for NCCL writes (tests/nccl_stand_in); FILE.R.sync,
// written when the process ends, how often it was held until the GPU had done something. Programs that this
// one starts are not recorded. Seen is what goes through the shared libraries: NCCL and CUDA's own libraries
// have a runtime within themselves.
//
// The compute stream is whichever waits for an event of a stream on which something was launched.

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <nccl.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace {

// Never destroyed: libraries call to the very end.
struct Recorder {
  std::mutex mutex;
  std::map<cudaEvent_t, cudaStream_t> recorded;  // where each event was recorded last
  std::map<cudaStream_t, int> holds;             // events of other streams that what comes next waits for
  std::map<cudaStream_t, bool> launched;         // NCCL's streams
  std::string path;                              // with the rank; empty: nothing is asked for
  std::FILE* file = nullptr;
  pid_t process = 0;
  // A copy that its caller waits for at once is one, not two.
  std::atomic<int64_t> stream{0}, device{0}, event{0}, copy{0}, pageable{0}, free{0};
};

Recorder& recorder() {
  static Recorder& all = *new Recorder;
  return all;
}

// Before main: mpirun's ranks know their number by then.
__attribute__((constructor)) void begin() {
  const char *path = std::getenv("LAB_CALLS_LOG"), *rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (path) recorder().path = std::string(path) + "." + (rank ? rank : "0");
  recorder().process = getpid();
  unsetenv("LD_PRELOAD");
}

__attribute__((destructor)) void end() {
  const Recorder& r = recorder();
  if (r.path.empty() || r.process != getpid()) return;
  std::FILE* file = std::fopen((r.path + ".sync").c_str(), "w");
  if (!file) return;
  const auto line = [&](const char* name, const std::atomic<int64_t>& count) {
    std::fprintf(file, "%s %lld\n", name, static_cast<long long>(count.load()));
  };
  line("cudaStreamSynchronize", r.stream);
  line("cudaDeviceSynchronize", r.device);
  line("cudaMemcpy", r.copy);
  line("pageable", r.pageable);
  line("cudaFree", r.free);
  line("cudaEventSynchronize", r.event);
  std::fclose(file);
}

// Under the mutex.
void note(const std::string& line) {
  Recorder& r = recorder();
  if (r.path.empty()) return;
  if (!r.file) r.file = std::fopen(r.path.c_str(), "w");
  if (!r.file) return;
  std::fprintf(r.file, "%s\n", line.c_str());
  std::fflush(r.file);
}

// Messages of a group are one launch: they wait for the same events.
thread_local int group_depth = 0;
thread_local cudaStream_t group_stream = {};

void launch(const char* name, size_t count, int type, int op, int rank, cudaStream_t stream) {
  Recorder& r = recorder();
  const std::lock_guard lock(r.mutex);
  r.launched[stream] = true;
  note(std::string(name) + " of " + std::to_string(count) + ", type " + std::to_string(type) + ", op " +
       std::to_string(op) + ", rank " + std::to_string(rank) + ", behind " + std::to_string(r.holds[stream]) +
       " event");
  if (group_depth == 0)
    r.holds[stream] = 0;
  else
    group_stream = stream;
}

// The library's own function. It is looked up at each call, which takes microseconds: this is no benchmark.
template <class Function>
Function* real(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (!found) {
    std::fprintf(stderr, "gpu_recorder: no library of this program has %s\n", name);
    std::abort();
  }
  return reinterpret_cast<Function*>(found);
}

thread_local bool copied = false;          // this thread's last call was such a copy,
thread_local cudaStream_t copied_on = {};  // on this stream

bool is_pageable(const void* memory) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) {
    cudaGetLastError();  // forgets it: the program has not asked
    return false;
  }
  return attributes.type == cudaMemoryTypeUnregistered;
}

}  // namespace

#define REAL(function) real<decltype(function)>(#function)

extern "C" {

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  launch("AllReduce", count, type, op, 0, stream);
  return REAL(ncclAllReduce)(from, to, count, type, op, comm, stream);
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  launch("Broadcast", count, type, ncclSum, root, stream);
  return REAL(ncclBroadcast)(from, to, count, type, root, comm, stream);
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  launch("AllGather", count, type, ncclSum, 0, stream);
  return REAL(ncclAllGather)(from, to, count, type, comm, stream);
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  launch("Send", count, type, ncclSum, peer, stream);
  return REAL(ncclSend)(from, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  launch("Recv", count, type, ncclSum, peer, stream);
  return REAL(ncclRecv)(to, count, type, peer, comm, stream);
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return REAL(ncclGroupStart)();
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth == 0) {
    const std::lock_guard lock(recorder().mutex);
    recorder().holds[group_stream] = 0;
  }
  return REAL(ncclGroupEnd)();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  {
    const std::lock_guard lock(recorder().mutex);
    recorder().recorded[event] = stream;
  }
  return REAL(cudaEventRecord)(event, stream);
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int flags) {
  {
    const std::lock_guard lock(recorder().mutex);
    recorder().recorded[event] = stream;
  }
  return REAL(cudaEventRecordWithFlags)(event, stream, flags);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags) {
  {
    Recorder& r = recorder();
    const std::lock_guard lock(r.mutex);
    const auto found = r.recorded.find(event);
    if (found != r.recorded.end() && found->second != stream) {
      if (r.launched.contains(found->second))
        note("the compute stream waits");
      else
        ++r.holds[stream];
    }
  }
  return REAL(cudaStreamWaitEvent)(stream, event, flags);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!copied || copied_on != stream) ++recorder().stream;
  copied = false;
  return REAL(cudaStreamSynchronize)(stream);
}

cudaError_t cudaDeviceSynchronize() {
  ++recorder().device;
  return REAL(cudaDeviceSynchronize)();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ++recorder().event;
  return REAL(cudaEventSynchronize)(event);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  ++recorder().copy;
  return REAL(cudaMemcpy)(to, from, bytes, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  copied = (kind == cudaMemcpyHostToDevice && is_pageable(from)) ||
           (kind == cudaMemcpyDeviceToHost && is_pageable(to));
  copied_on = stream;
  if (copied) ++recorder().pageable;
  return REAL(cudaMemcpyAsync)(to, from, bytes, kind, stream);
}

cudaError_t cudaFree(void* memory) {  // waits for all of the GPU
  if (memory) ++recorder().free;
  return REAL(cudaFree)(memory);
}

}  // extern "C"
