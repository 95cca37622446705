#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "comm/backends.h"

namespace lab {
namespace {

TEST(Beating, EachCollectiveIsSaidAsWhatItIs) {
  Heartbeat heartbeat;
  const auto comm = beating(heartbeat, self_communicator());
  std::vector<float> values(12);
  const Buffer buffer{values.data(), 12, DType::f32};
  struct Case {
    std::function<void()> collective;
    std::string said;
  };
  const std::vector<Case> cases = {
      {[&] { comm->all_reduce(buffer, ReduceOp::sum); }, "all-reduce 1 (48 B)"},
      {[&] { comm->broadcast(buffer, 0); }, "broadcast 2 (48 B)"},
      {[&] { comm->all_gather(buffer); }, "all-gather 3 (48 B)"},
      {[&] { comm->exchange({}, {}); }, "exchange 4"},
      {[&] { comm->barrier(); }, "barrier 5"},
      {[&] {
         comm->view({&buffer, 1});
       },
       "view 6 (48 B)"},
      {[&] { comm->allocate(4096); }, "allocation 7 (4.0 KiB)"},
  };
  for (const auto& [collective, said] : cases) {
    collective();
    EXPECT_EQ(where(heartbeat.own()), "before the first step, starting, after " + said);
    EXPECT_FALSE(heartbeat.own().inside);
  }
}

}  // namespace
}  // namespace lab
