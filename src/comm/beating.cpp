#include "comm/backends.h"

namespace lab {
namespace {

class Beating final : public Communicator {
 public:
  Beating(Heartbeat& heartbeat, std::unique_ptr<Communicator> inner)
      : heartbeat_(heartbeat), inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const char* name() const override { return inner_->name(); }
  void all_reduce(Buffer buffer, ReduceOp op) override {
    const InCollective here(heartbeat_, Collective::all_reduce, buffer.bytes(), buffer.type);
    inner_->all_reduce(buffer, op);
  }
  void all_reduce_bf16(Buffer sums) override {
    const InCollective here(heartbeat_, Collective::all_reduce_bf16, sums.bytes() / 2, DType::bf16);
    inner_->all_reduce_bf16(sums);
  }
  void broadcast(Buffer buffer, int root) override {
    const InCollective here(heartbeat_, Collective::broadcast, buffer.bytes(), buffer.type);
    inner_->broadcast(buffer, root);
  }
  void all_gather(Buffer all) override {
    const InCollective here(heartbeat_, Collective::all_gather, all.bytes(), all.type);
    inner_->all_gather(all);
  }
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    int64_t bytes = 0;
    for (const auto& message : receives) bytes += message.buffer.bytes();
    const DType type = receives.empty() ? DType::u8 : receives.front().buffer.type;
    const InCollective here(heartbeat_, Collective::exchange, bytes, type);
    inner_->exchange(sends, receives);
  }
  void barrier() override {
    const InCollective here(heartbeat_, Collective::barrier, 0);
    inner_->barrier();
  }
  BufferMemory allocate(int64_t bytes) override {
    const InCollective here(heartbeat_, Collective::allocate, bytes);
    return inner_->allocate(bytes);
  }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer> mine) override {
    const Buffer like = mine.empty() ? Buffer{} : mine.front();  // ranks may give another number of them
    const InCollective here(heartbeat_, Collective::view, like.bytes(), like.type);
    return inner_->view(mine);
  }
  Ticket submit(std::function<void()> work) override { return inner_->submit(std::move(work)); }
  void resign() override { inner_->resign(); }
  std::unique_ptr<Communicator> take_inner() { return std::move(inner_); }

 private:
  Heartbeat& heartbeat_;
  std::unique_ptr<Communicator> inner_;
};

}  // namespace

std::unique_ptr<Communicator> beating(Heartbeat& heartbeat, std::unique_ptr<Communicator> inner) {
  return std::make_unique<Beating>(heartbeat, std::move(inner));
}

std::unique_ptr<Communicator> unbeaten(std::unique_ptr<Communicator> group) {
  auto* beating = dynamic_cast<Beating*>(group.get());
  return beating ? beating->take_inner() : std::move(group);
}

}  // namespace lab
