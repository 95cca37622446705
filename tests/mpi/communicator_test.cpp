#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

#include "group.h"
#include "lab/comm/agreement.h"
#include "lab/core/error.h"

namespace {

using lab::Buffer;
using lab::DType;
using lab::ReduceOp;

const std::vector<int64_t> sizes = {0, 1, 3, 64, 1001, 300'000};

template <class T>
void sums_over_ranks(DType type) {
  auto& comm = test_group();
  for (const int64_t n : sizes) {
    std::vector<T> values(static_cast<size_t>(n));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(i % 97) + static_cast<T>(comm.rank());
    comm.all_reduce({values.data(), n, type}, ReduceOp::sum);
    const auto ranks = static_cast<T>(comm.size());
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(values[i], static_cast<T>(i % 97) * ranks + ranks * (ranks - 1) / 2) << n << " " << i;
  }
}

TEST(Communicator, AllReduceSums) {
  sums_over_ranks<float>(DType::f32);
  sums_over_ranks<double>(DType::f64);
  sums_over_ranks<int64_t>(DType::i64);
}

TEST(Communicator, AllReduceFindsTheLeastAndTheMost) {
  auto& comm = test_group();
  int64_t low = comm.rank() + 5, high = comm.rank() + 5;
  comm.all_reduce({&low, 1, DType::i64}, ReduceOp::min);
  comm.all_reduce({&high, 1, DType::i64}, ReduceOp::max);
  EXPECT_EQ(low, 5);
  EXPECT_EQ(high, comm.size() + 4);
}

TEST(Communicator, BroadcastGivesEveryoneTheRootsValues) {
  auto& comm = test_group();
  for (int root = 0; root < comm.size(); ++root)
    for (const int64_t n : sizes) {
      std::vector<float> values(static_cast<size_t>(n), static_cast<float>(comm.rank()));
      comm.broadcast({values.data(), n, DType::f32}, root);
      for (const float value : values) ASSERT_EQ(value, static_cast<float>(root));
    }
}

TEST(Communicator, AllGatherBringsEachRanksPart) {
  auto& comm = test_group();
  for (const int64_t n : sizes) {
    std::vector<double> all(static_cast<size_t>(n * comm.size()), -1);
    for (int64_t i = 0; i < n; ++i)
      all[static_cast<size_t>(comm.rank() * n + i)] = static_cast<double>(comm.rank() * 1000 + i);
    comm.all_gather({all.data(), static_cast<int64_t>(all.size()), DType::f64});
    for (int64_t r = 0; r < comm.size(); ++r)
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(all[static_cast<size_t>(r * n + i)], static_cast<double>(r * 1000 + i));
  }
}

TEST(Communicator, ExchangeDeliversInOrder) {
  auto& comm = test_group();
  const int ranks = comm.size(), next = (comm.rank() + 1) % ranks, before = (comm.rank() + ranks - 1) % ranks;
  if (ranks == 1) return;  // nobody to send to
  std::vector<float> first(10, static_cast<float>(comm.rank())),
      second(20, static_cast<float>(comm.rank()) + 100);
  std::vector<float> got_first(10), got_second(20);
  const std::vector<lab::Message> sends = {{next, {first.data(), 10, DType::f32}},
                                           {next, {second.data(), 20, DType::f32}}};
  const std::vector<lab::Message> receives = {{before, {got_first.data(), 10, DType::f32}},
                                              {before, {got_second.data(), 20, DType::f32}}};
  comm.exchange(sends, receives);
  EXPECT_EQ(got_first, std::vector<float>(10, static_cast<float>(before)));
  EXPECT_EQ(got_second, std::vector<float>(20, static_cast<float>(before) + 100));
}

TEST(Communicator, LaneRunsWorkInOrderBesideItsOwner) {
  auto& comm = test_group();
  const auto owner = std::this_thread::get_id();
  std::vector<int> order;
  std::vector<lab::Ticket> tickets;
  for (int i = 0; i < 20; ++i)
    tickets.push_back(comm.submit([&, i] {
      int64_t one = 1;
      comm.all_reduce({&one, 1, DType::i64}, ReduceOp::sum);
      EXPECT_EQ(one, comm.size());
      EXPECT_NE(std::this_thread::get_id(), owner);
      order.push_back(i);
    }));
  for (const auto& ticket : tickets) ticket.wait();
  std::vector<int> expected(20);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(Agreement, AnErrorOnOneRankIsEveryonesError) {
  auto& comm = test_group();
  const int culprit = comm.size() - 1;
  try {
    lab::agree(comm, [&] {
      if (comm.rank() == culprit) throw lab::DataError("label 12 is too large");
    });
    FAIL() << "no rank threw";
  } catch (const lab::AgreedError& e) {
    EXPECT_EQ(e.code(), lab::ExitCode::bad_data);
    EXPECT_NE(std::string(e.what()).find("label 12 is too large"), std::string::npos);
    const std::string who = culprit > 0 ? lab::text("rank ", culprit) : "";
    EXPECT_NE(std::string(e.what()).find(who), std::string::npos);
  }
  lab::agree(comm, [] {});  // and the group goes on
}

TEST(Agreement, BytesReachEveryRank) {
  auto& comm = test_group();
  const std::string mine = comm.rank() == 0 ? std::string("a\0b", 3) + std::string(100'000, 'x') : "";
  EXPECT_EQ(lab::broadcast_bytes(comm, mine), std::string("a\0b", 3) + std::string(100'000, 'x'));
}

}  // namespace
