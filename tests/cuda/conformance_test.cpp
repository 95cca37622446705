// The conformance suite on the real NCCL, where there is a GPU for it.

#include <cuda_runtime.h>

#include "comm/backends.h"
#include "comm/shared.h"
#include "conformance_bf16.h"
#include "forwarding.h"
#include "lab/device/device.h"
#include "lab/device/stream.h"
#include "mpi/group.h"

namespace lab::test {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Conformance);

namespace {

void require(cudaError_t code) {
  if (code != cudaSuccess) throw Unavailable(cudaGetErrorString(code));
}

// The suite's tests write and read where their buffers lie. So these lie in memory that both the GPU and this
// processor reach, and each operation ends when the GPU is done with it.
class Reachable final : public Forwarding {
 public:
  explicit Reachable(std::unique_ptr<Communicator> inner) : Forwarding(*inner), owned_(std::move(inner)) {}

  void all_reduce(Buffer buffer, ReduceOp op) override {
    Forwarding::all_reduce(buffer, op);
    await();
  }
  void all_reduce_bf16(Buffer sums) override {
    Forwarding::all_reduce_bf16(sums);
    await();
  }
  void broadcast(Buffer buffer, int root) override {
    Forwarding::broadcast(buffer, root);
    await();
  }
  void all_gather(Buffer all) override {
    Forwarding::all_gather(all);
    await();
  }
  // What is sent may still be under way on the compute stream, as sums of a tree are.
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    await();
    Forwarding::exchange(sends, receives);
    await();
  }
  BufferMemory allocate(int64_t bytes) override {
    void* memory = nullptr;
    const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
    require(cudaMallocManaged(&memory, size));
    std::memset(memory, 0, size);
    return {{static_cast<std::byte*>(memory), [](std::byte* first) { cudaFree(first); }}, bytes, false};
  }
  Ticket submit(std::function<void()> work) override {
    const Ticket ticket = Forwarding::submit(std::move(work));
    return Ticket(std::async(std::launch::deferred, [ticket] {
                    ticket.wait();
                    await();
                  }).share());
  }

 private:
  static void await() { require(cudaDeviceSynchronize()); }
  std::unique_ptr<Communicator> owned_;
};

std::unique_ptr<Communicator> real_nccl() {
  use_gpu(test_world().local_rank() % static_cast<int>(visible_gpus().size()));
  return std::make_unique<Reachable>(
      nccl_communicator(shared_communicator(0, [](int color) { return mpi_communicator(color); })));
}

std::vector<Backend> where_there_are_gpus() {
  if (visible_gpus().empty()) return {};
  return {{"nccl", [](const std::function<void(Ranks&)>& body) {
             const auto comm = real_nccl();
             Ranks ranks{*comm, real_nccl, [](int) { return 0; }};
             body(ranks);
           }}};
}

INSTANTIATE_TEST_SUITE_P(Cuda, Conformance, testing::ValuesIn(where_there_are_gpus()), Conformance::name_of);

}  // namespace
}  // namespace lab::test
