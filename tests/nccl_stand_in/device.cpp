// lab/device/stream.h for the stand-in.

#include "lab/device/device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "lab/core/error.h"
#include "lab/device/stream.h"
#include "nccl_stand_in/queue.h"

namespace stand_in {

Queue::~Queue() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Queue::push(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void Queue::run() {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return closing_ || !work_.empty(); });
    if (work_.empty()) return;
    const auto work = std::move(work_.front());
    work_.pop_front();
    lock.unlock();
    work();
  }
}

Queue* compute_queue() {
  static char place;  // only its address counts: nothing is ever queued there
  return reinterpret_cast<Queue*>(&place);
}

namespace {

struct Range {
  const std::byte* first;
  size_t bytes;
  bool overlaps(const Range& other) const {
    return first < other.first + other.bytes && other.first < first + bytes;
  }
};

Range range_of(const void* memory, size_t bytes) { return {static_cast<const std::byte*>(memory), bytes}; }

struct Memory {
  std::mutex mutex;
  std::map<const std::byte*, size_t> allocations;
  std::vector<Range> flights;
};

Memory& memory() {
  static Memory& all = *new Memory;  // outlives whatever is given back at the end of the process
  return all;
}

}  // namespace

bool in_device_memory(const void* at, size_t bytes) {
  if (reached(at) != at) return true;
  const std::lock_guard lock(memory().mutex);
  const Range asked = range_of(at, bytes);
  auto next = memory().allocations.upper_bound(asked.first);
  if (next == memory().allocations.begin()) return false;
  const auto& [first, size] = *std::prev(next);
  return asked.first + asked.bytes <= first + size;
}

bool in_flight(const void* at, size_t bytes) {
  const std::lock_guard lock(memory().mutex);
  const Range asked = range_of(at, bytes);
  return std::ranges::any_of(memory().flights, [&](const Range& flight) { return flight.overlaps(asked); });
}

void begin_flight(const void* at, size_t bytes) {
  const std::lock_guard lock(memory().mutex);
  memory().flights.push_back(range_of(at, bytes));
}

void end_flight(const void* at, size_t bytes) {
  const std::lock_guard lock(memory().mutex);
  auto& flights = memory().flights;
  const auto found =
      std::ranges::find_if(flights, [&](const Range& f) { return f.first == at && f.bytes == bytes; });
  flights.erase(found);
}

void note(const std::string& line) {
  static std::FILE* const file = [] {
    const char *path = std::getenv("NCCL_STAND_IN_LOG"), *rank = std::getenv("OMPI_COMM_WORLD_RANK");
    return path ? std::fopen(lab::text(path, '.', rank ? rank : "0").c_str(), "w") : nullptr;
  }();
  if (!file) return;
  std::fprintf(file, "%s\n", line.c_str());
  std::fflush(file);
}

void violation(const std::string& rule) {
  std::fprintf(stderr, "nccl stand-in: %s\n", rule.c_str());
  std::abort();
}

}  // namespace stand_in

namespace lab {
namespace {

using stand_in::compute_queue;
using stand_in::Queue;

// How often an event was recorded, and up to which of these its streams have come.
struct Place {
  std::mutex mutex;
  std::condition_variable passed_one;
  uint64_t recorded = 0, passed = 0;

  void pass(uint64_t number) {
    {
      const std::lock_guard lock(mutex);
      passed = std::max(passed, number);
    }
    passed_one.notify_all();
  }
  void await(uint64_t number) {
    std::unique_lock lock(mutex);
    passed_one.wait(lock, [&] { return passed >= number; });
  }
};

// What an Event owns. Streams keep the place alive.
struct Owned {
  std::shared_ptr<Place> place = std::make_shared<Place>();
  bool of_compute = false;  // where it was recorded last
};

Owned& owned(void* handle) { return *static_cast<Owned*>(handle); }
Queue* queue_of(StreamHandle stream) { return static_cast<Queue*>(stream); }

uint64_t recorded(const Owned& event) {
  const std::lock_guard lock(event.place->mutex);
  return event.place->recorded;
}

}  // namespace

// So many as NCCL_STAND_IN_GPUS says, or 8. Their tensors are those of torch's stand-in, or plain ones.
std::vector<Device> visible_gpus() {
  const char* count = std::getenv("NCCL_STAND_IN_GPUS");
  std::vector<Device> gpus;
  for (int i = 0; i < (count ? std::atoi(count) : 8); ++i)
    gpus.push_back({Device::Kind::cuda, i, text("GPU ", i, " of the stand-in"),
                    stand_in::torch_stand_in_reached ? text("privateuseone:", i) : "cpu", text("GPU ", i)});
  return gpus;
}

Stream::Stream(Priority) : handle_(new Queue) {}
Stream::~Stream() {  // does not wait for what is queued, which is done all the same
  std::thread([queue = queue_of(handle_)] { delete queue; }).detach();
}

Event::Event() : handle_(new Owned) {}
Event::~Event() { delete &owned(handle_); }

void Event::record(StreamHandle stream) {
  Owned& event = owned(handle_);
  uint64_t number = 0;
  {
    const std::lock_guard lock(event.place->mutex);
    number = ++event.place->recorded;
  }
  event.of_compute = queue_of(stream) == compute_queue();
  if (event.of_compute) return event.place->pass(number);
  queue_of(stream)->push([place = event.place, number] { place->pass(number); });
}

void Event::hold(StreamHandle stream) const {
  const Owned& event = owned(handle_);
  const uint64_t number = recorded(event);
  if (queue_of(stream) == compute_queue()) {
    stand_in::note("the compute stream waits");
    return event.place->await(number);
  }
  if (event.of_compute && number > 0) ++queue_of(stream)->holds;
  queue_of(stream)->push([place = event.place, number] { place->await(number); });
}

void use_gpu(int) {}
StreamHandle compute_stream() { return compute_queue(); }

// Of pages of its own, so that whoever touches it after it is gone is ended by the system.
std::shared_ptr<std::byte> device_memory(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes);
  void* pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw Unavailable("the stand-in has no ", bytes, " bytes");
  auto& memory = stand_in::memory();
  const std::lock_guard lock(memory.mutex);
  memory.allocations[static_cast<std::byte*>(pages)] = size;
  return {static_cast<std::byte*>(pages), [size](std::byte* first) {
            if (stand_in::in_flight(first, size))
              stand_in::violation("memory is given back while it is in use");
            {
              const std::lock_guard held(stand_in::memory().mutex);
              stand_in::memory().allocations.erase(first);
            }
            munmap(first, size);
          }};
}

bool on_device(const void* memory) { return memory && stand_in::in_device_memory(memory, 1); }

// The compute stream is the caller.
void copy_on_device(void* to, const void* from, int64_t bytes) {
  std::memcpy(stand_in::reached(to), stand_in::reached(from), static_cast<size_t>(bytes));
}

void add_on_device(void* sum, const void* left, const void* right, int64_t count, DType type) {
  const auto each = [&]<class T>(T* out, const T* a, const T* b) {
    for (int64_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
  };
  void *out = stand_in::reached(sum), *a = stand_in::reached(left), *b = stand_in::reached(right);
  if (type == DType::f32)
    each(static_cast<float*>(out), static_cast<const float*>(a), static_cast<const float*>(b));
  else
    each(static_cast<double*>(out), static_cast<const double*>(a), static_cast<const double*>(b));
}

}  // namespace lab
