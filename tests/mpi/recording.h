#pragma once
// A communicator that writes down what is asked of it, and when work is submitted.

#include <string>
#include <vector>

#include "lab/comm/communicator.h"
#include "lab/core/text.h"

// Calls reach `inner` unchanged. `log` holds one line per collective, in the order in which they ran here.
class Recording final : public lab::Communicator {
 public:
  explicit Recording(lab::Communicator& inner) : inner_(inner) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  const char* name() const override { return inner_.name(); }
  void all_reduce(lab::Buffer buffer, lab::ReduceOp op) override {
    log.push_back(lab::text("all_reduce ", buffer.count));
    inner_.all_reduce(buffer, op);
  }
  void all_reduce_bf16(lab::Buffer sums) override {
    log.push_back(lab::text("all_reduce_bf16 ", sums.count));
    inner_.all_reduce_bf16(sums);
  }
  void broadcast(lab::Buffer buffer, int root) override {
    log.push_back(lab::text("broadcast ", buffer.count));
    inner_.broadcast(buffer, root);
  }
  void all_gather(lab::Buffer all) override {
    log.push_back(lab::text("all_gather ", all.count));
    inner_.all_gather(all);
  }
  void exchange(std::span<const lab::Message> sends, std::span<const lab::Message> receives) override {
    log.push_back("exchange");
    inner_.exchange(sends, receives);
  }
  void barrier() override {
    log.push_back("barrier");
    inner_.barrier();
  }
  lab::BufferMemory allocate(int64_t bytes) override { return inner_.allocate(bytes); }
  std::vector<std::vector<lab::Buffer>> view(std::span<const lab::Buffer> mine) override {
    auto seen = inner_.view(mine);
    if (!seen.empty()) log.push_back("view");
    return seen;
  }
  lab::Ticket submit(std::function<void()> work) override {
    ++submitted;
    if (on_submit) on_submit();
    return inner_.submit(std::move(work));
  }

  std::vector<std::string> log;
  int submitted = 0;
  std::function<void()> on_submit;

 private:
  lab::Communicator& inner_;
};
