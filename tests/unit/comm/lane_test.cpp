#include "lab/comm/lane.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace {

TEST(Lane, RunsInOrderOnItsOwnThread) {
  lab::Lane lane;
  std::vector<int> order;
  std::vector<lab::Ticket> tickets;
  for (int i = 0; i < 1000; ++i) tickets.push_back(lane.submit([&order, i] { order.push_back(i); }));
  for (const auto& ticket : tickets) ticket.wait();
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(Lane, AFailureReachesItsTicketAndAllLaterOnes) {
  lab::Lane lane;
  std::atomic<bool> ran = false;
  const auto good = lane.submit([] {});
  const auto bad = lane.submit([] { throw std::runtime_error("link lost"); });
  const auto later = lane.submit([&] { ran = true; });
  EXPECT_NO_THROW(good.wait());
  EXPECT_THROW(bad.wait(), std::runtime_error);
  EXPECT_THROW(later.wait(), std::runtime_error);
  EXPECT_FALSE(ran);
}

TEST(Lane, EndsWithWorkStillQueued) {
  for (int round = 0; round < 100; ++round) {
    lab::Lane lane;
    for (int i = 0; i < 10; ++i) lane.submit([] {});
  }
}

TEST(Deferred, RunsInOrderWhenItIsWaitedFor) {
  lab::Deferred deferred;
  std::vector<int> order;
  std::vector<lab::Ticket> tickets;
  for (int i = 0; i < 4; ++i) tickets.push_back(deferred.submit([&order, i] { order.push_back(i); }));
  EXPECT_TRUE(order.empty());
  tickets[2].wait();
  EXPECT_EQ(order, (std::vector{0, 1, 2}));
  for (const auto& ticket : tickets) ticket.wait();
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
}

TEST(Deferred, AFailureReachesItsTicketAndAllLaterOnes) {
  lab::Deferred deferred;
  bool ran = false;
  const auto bad = deferred.submit([] { throw std::runtime_error("link lost"); });
  const auto later = deferred.submit([&] { ran = true; });
  EXPECT_THROW(later.wait(), std::runtime_error);
  EXPECT_THROW(bad.wait(), std::runtime_error);
  EXPECT_THROW(deferred.submit([&] { ran = true; }).wait(), std::runtime_error);
  EXPECT_FALSE(ran);
}

TEST(Deferred, KeepsNothingOfWhatIsDone) {
  lab::Deferred deferred;
  const auto held = std::make_shared<int>(7);
  for (int i = 0; i < 100'000; ++i) deferred.submit([held] {}).wait();
  EXPECT_LE(held.use_count(), 2);
}

TEST(Self, WorkRunsAtOnce) {
  const auto comm = lab::self_communicator();
  bool ran = false;
  const auto ticket = comm->submit([&] { ran = true; });
  EXPECT_TRUE(ran);
  ticket.wait();
  EXPECT_THROW(comm->submit([] { throw std::runtime_error("x"); }).wait(), std::runtime_error);
}

}  // namespace
