#pragma once
// Ranks that are threads of one process: a communicator that is simple enough to be believed.

#include <algorithm>
#include <barrier>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/bf16_sum.h"
#include "lab/comm/communicator.h"
#include "lab/comm/lane.h"
#include "lab/core/error.h"

namespace lab::test {

// Where the threads of a group meet: each shows something to the others.
struct ThreadGroup {
  explicit ThreadGroup(int ranks) : shown(static_cast<size_t>(ranks)), all(ranks) {}
  std::vector<const void*> shown;
  std::barrier<> all;
  std::mutex mutex;
  std::map<int, std::shared_ptr<ThreadGroup>> parts;  // while the group is split, by color
};

template <class T>
T reduced(ReduceOp op, T a, T b) {
  if (op == ReduceOp::min) return b < a ? b : a;
  if (op == ReduceOp::max) return a < b ? b : a;
  return static_cast<T>(a + b);
}

// Every operation: all show what they have, all read, all go on.
class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank) : group_(std::move(group)), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(group_->shown.size()); }
  const char* name() const override { return "threads"; }

  void all_reduce(Buffer buffer, ReduceOp op) override {
    std::vector<std::byte> sum(static_cast<size_t>(buffer.bytes()));
    together(buffer, [&] {
      if (buffer.type == DType::u8) reduce_as<uint8_t>(sum, buffer.count, op);
      if (buffer.type == DType::i64) reduce_as<int64_t>(sum, buffer.count, op);
      if (buffer.type == DType::f32) reduce_as<float>(sum, buffer.count, op);
      if (buffer.type == DType::f64) reduce_as<double>(sum, buffer.count, op);
    });
    copy(buffer.data, sum.data(), buffer.bytes());
  }
  void all_reduce_bf16(Buffer sums) override { bf16_sum_.all_reduce(*this, sums); }
  void broadcast(Buffer buffer, int root) override {
    together(buffer, [&] {
      if (rank_ != root) copy(buffer.data, shown<Buffer>(root).data, buffer.bytes());
    });
  }
  void all_gather(Buffer all) override {
    const Buffer own = part(all, rank_);
    together(own, [&] {
      for (int r = 0; r < size(); ++r)
        if (r != rank_) copy(part(all, r).data, shown<Buffer>(r).data, own.bytes());
    });
  }
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    std::map<int, size_t> taken;  // by sender
    together(sends, [&] {
      for (const auto& [peer, buffer] : receives) {
        std::vector<Buffer> mine;
        for (const auto& message : shown<std::span<const Message>>(peer))
          if (message.peer == rank_) mine.push_back(message.buffer);
        copy(buffer.data, mine.at(taken[peer]++).data, buffer.bytes());
      }
    });
  }
  void barrier() override { group_->all.arrive_and_wait(); }

  BufferMemory allocate(int64_t bytes) override { return plain_memory(bytes); }
  std::vector<std::vector<Buffer>> view(std::span<const Buffer> mine) override {
    std::vector<std::vector<Buffer>> out;
    together(mine, [&] {
      for (int r = 0; r < size(); ++r) {
        const auto theirs = shown<std::span<const Buffer>>(r);
        out.emplace_back(theirs.begin(), theirs.end());
      }
    });
    return out;
  }
  Ticket submit(std::function<void()> work) override { return lane_.submit(std::move(work)); }
  void resign() override { throw Bug("threads do not resign"); }

  // Those that give the same color; null for a negative one.
  std::unique_ptr<Communicator> split(int color) {
    std::unique_ptr<Communicator> part;
    together(color, [&] {
      int below = 0, same = 0;
      for (int r = 0; r < size(); ++r) {
        same += shown<int>(r) == color;
        below += r < rank_ && shown<int>(r) == color;
      }
      if (color < 0) return;
      const std::lock_guard lock(group_->mutex);
      auto& group = group_->parts[color];
      if (!group) group = std::make_shared<ThreadGroup>(same);
      part = std::make_unique<ThreadCommunicator>(group, below);
    });
    if (rank_ == 0) group_->parts.clear();
    barrier();
    return part;
  }

 private:
  template <class Mine, class Work>
  void together(const Mine& mine, const Work& work) {
    group_->shown[static_cast<size_t>(rank_)] = &mine;
    barrier();
    work();
    barrier();
  }
  template <class T>
  const T& shown(int rank) const {
    return *static_cast<const T*>(group_->shown[static_cast<size_t>(rank)]);
  }
  static void copy(void* to, const void* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  Buffer part(const Buffer& all, int rank) const {
    const int64_t count = all.count / size();
    return all.slice(rank * count, count);
  }
  template <class T>
  void reduce_as(std::vector<std::byte>& sum, int64_t count, ReduceOp op) const {
    for (int64_t i = 0; i < count; ++i) {
      T value = static_cast<const T*>(shown<Buffer>(0).data)[i];
      for (int r = 1; r < size(); ++r)
        value = reduced(op, value, static_cast<const T*>(shown<Buffer>(r).data)[i]);
      std::memcpy(sum.data() + i * static_cast<int64_t>(sizeof(T)), &value, sizeof value);
    }
  }

  std::shared_ptr<ThreadGroup> group_;
  int rank_;
  Bf16Sum bf16_sum_;
  Lane lane_;
};

// Runs `body` on so many threads, each with its communicator.
inline void on_threads(int ranks, const std::function<void(ThreadCommunicator&)>& body) {
  const auto group = std::make_shared<ThreadGroup>(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      ThreadCommunicator comm(group, r);
      body(comm);
    });
  for (auto& thread : threads) thread.join();
}

}  // namespace lab::test
