// Device memory: each page of one file is mapped twice, where tensors see it and nobody may touch it, and
// where the operators reach it.

#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <mutex>
#include <set>

#include "torch_stand_in/stand_in.h"

namespace torch_stand_in {
namespace {

constexpr size_t arena_bytes = size_t{1} << 38;  // of addresses: pages exist once they are used

std::byte* map(int file, int protection) {
  void* pages = mmap(nullptr, arena_bytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (pages == MAP_FAILED) violation("no addresses for its memory");
  return static_cast<std::byte*>(pages);
}

struct Block {
  size_t bytes = 0;
  int stream = 0;  // that it was allocated on
  Moment written;
  std::map<int, uint64_t> uses;  // per stream: the last
  std::set<int> recorded;        // by record_stream
};

struct Memory {
  std::byte *seen, *reached;
  std::mutex mutex;
  size_t end = 0;                              // of what was ever given out
  std::map<size_t, std::vector<size_t>> free;  // by size
  std::map<size_t, Block> blocks;              // by offset
  c10::DeviceIndex last_device = 0;            // that gave memory
  std::map<const void*, size_t> pinned;

  Memory() {
    const int file = memfd_create("torch_stand_in", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(arena_bytes)) != 0) violation("no memory");
    seen = map(file, PROT_NONE);
    reached = map(file, PROT_READ | PROT_WRITE);
    close(file);
  }
  bool has(const void* address) const { return address >= seen && address < seen + arena_bytes; }
  Block* find(const void* address) {
    if (!has(address)) return nullptr;
    const auto offset = static_cast<size_t>(static_cast<const std::byte*>(address) - seen);
    auto next = blocks.upper_bound(offset);
    if (next == blocks.begin()) return nullptr;
    auto& [first, block] = *std::prev(next);
    return offset < first + block.bytes ? &block : nullptr;
  }
};

Memory& memory() {
  static Memory& all = *new Memory;  // outlives whatever is given back at the end of the process
  return all;
}

// The caching allocator of a real device gives memory out again to the stream that it came from, at once.
void give_back(void* address) {
  Memory& all = memory();
  const std::lock_guard lock(all.mutex);
  const auto offset = static_cast<size_t>(static_cast<std::byte*>(address) - all.seen);
  const auto found = all.blocks.find(offset);
  const Block& block = found->second;
  for (const auto& [stream, events] : block.uses)
    if (!block.recorded.contains(stream) && !is_ordered({stream, events}, block.stream))
      violation("memory is given back that another stream may still use: record_stream() is missing");
  all.free[block.bytes].push_back(offset);
  all.blocks.erase(found);
}

class DeviceAllocator final : public c10::Allocator {
 public:
  // Filled with NaNs, so that nobody finds zeros there by luck.
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device = c10::impl::getDeviceGuardImpl(c10::kPrivateUse1)->getDevice();
    if (bytes == 0) return {nullptr, device};
    const Moment moment = now(device);
    Memory& all = memory();
    const std::lock_guard lock(all.mutex);
    all.last_device = device.index();
    const size_t size = std::bit_ceil(std::max<size_t>(bytes, 64));
    size_t offset = all.end;
    if (auto& free = all.free[size]; !free.empty()) {
      offset = free.back();
      free.pop_back();
    } else if ((all.end += size) > arena_bytes) {
      violation("its memory is full");
    }
    all.blocks[offset] = {size, moment.stream, moment, {}, {}};
    std::memset(all.reached + offset, 0xff, bytes);
    return {all.seen + offset, all.seen + offset, &give_back, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(host_address(to), host_address(from), bytes);
  }
};

void give_back_pinned(void* address) {
  {
    const std::lock_guard lock(memory().mutex);
    memory().pinned.erase(address);
  }
  c10::free_cpu(address);
}

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* address = c10::alloc_cpu(std::max<size_t>(bytes, 1));
    const std::lock_guard lock(memory().mutex);
    memory().pinned[address] = bytes;
    return {address, address, &give_back_pinned, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back_pinned; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

struct sigaction before;

// Says what happened, when it was this; what else it may be is for whoever was asked before.
void touched(int, siginfo_t* info, void*) {
  if (memory().has(info->si_addr)) {
    constexpr char text[] = "torch stand-in: the host touched device memory\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text, sizeof text - 1);
    abort();
  }
  sigaction(SIGSEGV, &before, nullptr);  // the access is tried again
}

struct Installed {
  Installed() {
    memory();
    c10::SetAllocator(c10::kPrivateUse1, device_allocator());
    struct sigaction action = {};
    action.sa_sigaction = touched;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before);
  }
} installed;

}  // namespace

void* host_address(const void* device_address) {
  const Memory& all = memory();
  auto* address = static_cast<std::byte*>(const_cast<void*>(device_address));
  return all.has(address) ? all.reached + (address - all.seen) : address;
}

bool is_pinned(const void* address) {
  const std::lock_guard lock(memory().mutex);
  auto next = memory().pinned.upper_bound(address);
  if (next == memory().pinned.begin()) return false;
  const auto& [first, bytes] = *std::prev(next);
  return address < static_cast<const std::byte*>(first) + bytes;
}

bool is_kept_while_copied(const at::Tensor& tensor) {
  const std::lock_guard lock(memory().mutex);
  return memory().pinned.contains(tensor.const_data_ptr()) ||
         memory().pinned.contains(tensor.storage().data_ptr().get_context());
}

c10::Allocator* device_allocator() {
  static DeviceAllocator& allocator = *new DeviceAllocator;
  return &allocator;
}

c10::Allocator* pinned_allocator() {
  static PinnedAllocator& allocator = *new PinnedAllocator;
  return &allocator;
}

c10::Device device_at(const void* address) {
  const std::lock_guard lock(memory().mutex);
  const Block* block = memory().find(address);
  return block ? device_of(block->stream) : c10::Device(c10::kPrivateUse1, memory().last_device);
}

void use(const void* device_address, bool writes) {
  const std::lock_guard lock(memory().mutex);
  Block* block = memory().find(device_address);
  if (!block) return;
  const Moment moment = now(device_of(block->stream));
  if (!is_ordered(block->written, moment.stream))
    violation("a stream uses memory and has not waited for the stream that wrote it");
  if (writes) {
    for (const auto& [stream, events] : block->uses)
      if (!is_ordered({stream, events}, moment.stream))
        violation("a stream writes memory and has not waited for a stream that uses it");
    block->written = moment;
  }
  block->uses[moment.stream] = moment.events;
}

void record_stream(const void* device_address, const c10::Stream& stream) {
  const std::lock_guard lock(memory().mutex);
  if (Block* block = memory().find(device_address)) block->recorded.insert(number_of(stream));
}

}  // namespace torch_stand_in

// For stand-ins of other libraries that work on this memory, which declare it as weak: where they reach it;
// null for what is not this device's.
extern "C" void* torch_stand_in_reached(const void* seen) {
  void* address = torch_stand_in::host_address(seen);
  return address == seen ? nullptr : address;
}
