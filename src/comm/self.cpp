#include <algorithm>
#include <cstring>
#include <new>

#include "comm/backends.h"
#include "lab/core/error.h"
#include "lab/device/stream.h"

namespace lab {
namespace {

class Self final : public Communicator {
 public:
  explicit Self(BufferMemory (*give)(int64_t)) : give_(give) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const char* name() const override { return "self"; }
  void all_reduce(Buffer, ReduceOp) override {}
  void all_reduce_bf16(Buffer) override {}
  void broadcast(Buffer, int) override {}
  void all_gather(Buffer) override {}
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    if (!sends.empty() || !receives.empty()) throw Bug("a message to another rank in a group of one");
  }
  void barrier() override {}
  BufferMemory allocate(int64_t bytes) override { return give_(bytes); }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer> mine) override {
    return {{mine.begin(), mine.end()}};
  }
  Ticket submit(std::function<void()> work) override {
    std::packaged_task<void()> task(std::move(work));
    Ticket ticket(task.get_future().share());
    task();
    return ticket;
  }
  void resign() override {}

 private:
  BufferMemory (*give_)(int64_t);
};

}  // namespace

BufferMemory plain_memory(int64_t bytes) {
  constexpr std::align_val_t line{64};
  const auto size = static_cast<size_t>(bytes);
  const auto free = [line](std::byte* memory) { ::operator delete(memory, line); };
  BufferMemory memory{{static_cast<std::byte*>(::operator new(size, line)), free}, bytes, false};
  std::memset(memory.data.get(), 0, size);
  return memory;
}

BufferMemory device_allocation(int64_t bytes) {
  return {device_memory(std::max<int64_t>(bytes, 1)), bytes, false};
}

std::unique_ptr<Communicator> self_communicator(BufferMemory (*allocate)(int64_t)) {
  return std::make_unique<Self>(allocate);
}

}  // namespace lab
