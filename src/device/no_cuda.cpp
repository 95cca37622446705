#include "lab/core/error.h"
#include "lab/device/device.h"
#include "lab/device/stream.h"

namespace lab {
namespace {

[[noreturn]] void refuse() {
  throw Unavailable(
      "this build of lab is for CPUs and can't use a GPU: use --backend auto, or build it with the preset "
      "cuda");
}

}  // namespace

std::vector<Device> visible_gpus() { return {}; }

Stream::Stream(Priority) { refuse(); }
Stream::~Stream() = default;
Event::Event() { refuse(); }
Event::~Event() = default;
void Event::record(StreamHandle) { refuse(); }
void Event::hold(StreamHandle) const { refuse(); }
void use_gpu(int) { refuse(); }
StreamHandle compute_stream() { refuse(); }
std::shared_ptr<std::byte> device_memory(int64_t) { refuse(); }
bool on_device(const void*) { return false; }
void copy_on_device(void*, const void*, int64_t) { refuse(); }
void add_on_device(void*, const void*, const void*, int64_t, DType) { refuse(); }

}  // namespace lab
