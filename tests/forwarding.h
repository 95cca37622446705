#pragma once
// A communicator to derive from where some operations are to be changed or watched.

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "lab/comm/communicator.h"

namespace lab::test {

// Hands every operation on to `inner`, which must outlive it.
class Forwarding : public Communicator {
 public:
  explicit Forwarding(Communicator& inner) : inner_(inner) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const char* name() const override { return inner_.name(); }
  void all_reduce(Buffer buffer, ReduceOp op) override { inner_.all_reduce(buffer, op); }
  void all_reduce_bf16(Buffer sums) override { inner_.all_reduce_bf16(sums); }
  void broadcast(Buffer buffer, int root) override { inner_.broadcast(buffer, root); }
  void all_gather(Buffer all) override { inner_.all_gather(all); }
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    inner_.exchange(sends, receives);
  }
  void barrier() override { inner_.barrier(); }
  BufferMemory allocate(int64_t bytes) override { return inner_.allocate(bytes); }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer> mine) override { return inner_.view(mine); }
  Ticket submit(std::function<void()> work) override { return inner_.submit(std::move(work)); }
  void resign() override { inner_.resign(); }

 private:
  Communicator& inner_;
};

}  // namespace lab::test
