#pragma once
// A communicator that writes down what is asked of it, and when work is submitted.

#include <string>
#include <vector>

#include "forwarding.h"
#include "lab/core/text.h"

// `log` holds one line per collective, in the order in which they ran here.
class Recording final : public lab::test::Forwarding {
 public:
  using Forwarding::Forwarding;
  void all_reduce(lab::Buffer buffer, lab::ReduceOp op) override {
    log.push_back(lab::text("all_reduce ", buffer.count));
    Forwarding::all_reduce(buffer, op);
  }
  void all_reduce_bf16(lab::Buffer sums) override {
    log.push_back(lab::text("all_reduce_bf16 ", sums.count));
    Forwarding::all_reduce_bf16(sums);
  }
  void broadcast(lab::Buffer buffer, int root) override {
    log.push_back(lab::text("broadcast ", buffer.count));
    Forwarding::broadcast(buffer, root);
  }
  void all_gather(lab::Buffer all) override {
    log.push_back(lab::text("all_gather ", all.count));
    Forwarding::all_gather(all);
  }
  void exchange(std::span<const lab::Message> sends, std::span<const lab::Message> receives) override {
    log.push_back("exchange");
    Forwarding::exchange(sends, receives);
  }
  void barrier() override {
    log.push_back("barrier");
    Forwarding::barrier();
  }
  std::vector<std::vector<lab::Buffer>> view(std::span<const lab::Buffer> mine) override {
    auto seen = Forwarding::view(mine);
    if (!seen.empty()) log.push_back("view");
    return seen;
  }
  lab::Ticket submit(std::function<void()> work) override {
    ++submitted;
    if (on_submit) on_submit();
    return Forwarding::submit(std::move(work));
  }

  std::vector<std::string> log;
  int submitted = 0;
  std::function<void()> on_submit;
};
