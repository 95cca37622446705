// A rank that ends alone: nobody of its group waits for it, whatever the others are in.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "comm/backends.h"
#include "comm/shared.h"
#include "group.h"
#include "lab/comm/agreement.h"

namespace lab {
namespace {

using Make = std::function<std::unique_ptr<Communicator>()>;

struct Kind {
  std::string name;
  Make make;
};

std::vector<Kind> kinds() {
  const auto on_nodes = [](int node) {
    return shared_communicator(node, [](int color) { return mpi_communicator(color); });
  };
  const auto rank = [] { return test_world().rank(); };  // which is not there yet when this is called
  return {{"auto", [] { return test_world().communicator(Backend::automatic, Log::silent()); }},
          {"mpi", [] { return test_world().communicator(Backend::mpi, Log::silent()); }},
          {"nodes of one", [=] { return on_nodes(rank()); }},
          {"nodes of two", [=] { return on_nodes(rank() / 2); }},
          {"a node of one", [=] { return on_nodes(rank() > 0); }}};
}

constexpr int64_t many = 300'000;  // more than a slot holds

struct Room {
  std::vector<float> values = std::vector<float>(many, 1);
  Buffer few() { return {values.data(), 12, DType::f32}; }
  Buffer all() { return {values.data(), many, DType::f32}; }
};

// What one rank does while the culprit has gone.
using Wait = std::function<void(Communicator&, Room&)>;

std::vector<std::pair<std::string, Wait>> waits() {
  return {{"a small sum", [](auto& comm, auto& room) { comm.all_reduce(room.few(), ReduceOp::sum); }},
          {"a large sum", [](auto& comm, auto& room) { comm.all_reduce(room.all(), ReduceOp::sum); }},
          {"a rounded sum", [](auto& comm, auto& room) { comm.all_reduce_bf16(room.all()); }},
          {"a broadcast", [](auto& comm, auto& room) { comm.broadcast(room.all(), comm.size() - 1); }},
          {"a barrier", [](auto& comm, auto&) { comm.barrier(); }},
          {"an allocation",
           [](auto& comm, auto&) {
             comm.allocate(4096);
             comm.barrier();
           }},
          {"an agreement", [](auto& comm, auto&) { agree(comm, [] {}); }},
          {"submitted sums", [](auto& comm, auto& room) {
             const Ticket first = comm.submit([&] { comm.all_reduce(room.all(), ReduceOp::sum); });
             const Ticket second = comm.submit([&] { comm.all_reduce(room.few(), ReduceOp::sum); });
             first.wait();
             second.wait();
           }}};
}

// Who resigned, as this rank was told; -1: nobody.
int told(Communicator& comm, const std::function<void()>& work) {
  int who = -1;
  try {
    work();
  } catch (const PeerResigned& e) {
    const std::string words = e.what();
    who = std::stoi(words.substr(words.find("rank ") + 5));
  }
  comm.resign();
  return who;
}

class Resign : public testing::TestWithParam<Kind> {
 protected:
  const int me_ = test_world().rank(), size_ = test_world().size();
  void SetUp() override {
    if (size_ == 1) GTEST_SKIP() << "nobody waits for a rank alone";
  }
};

TEST_P(Resign, WhoeverWaitsIsToldWherever) {
  for (const auto& [words, wait] : waits())
    for (int culprit = 0; culprit < size_; ++culprit) {
      SCOPED_TRACE(text(words, ", rank ", culprit));
      const auto comm = GetParam().make();
      Room room;
      comm->all_reduce(room.few(), ReduceOp::sum);
      const int who = told(*comm, [&, &wait = wait] {
        if (me_ != culprit) wait(*comm, room);
      });
      // Between nodes it may be one that was told before.
      if (me_ != culprit) {
        EXPECT_GE(who, 0);
      }
    }
  Room room;
  const auto fresh = GetParam().make();
  fresh->all_reduce(room.few(), ReduceOp::sum);
  EXPECT_EQ(room.values[0], static_cast<float>(size_));
}

TEST_P(Resign, TheLaneOfWhoResignsDoesItsPartFirst) {
  const auto comm = GetParam().make();
  Room room, more;
  Ticket first, second;
  const int who = told(*comm, [&] {
    first = comm->submit([&] { comm->all_reduce(room.all(), ReduceOp::sum); });
    if (me_ == 0) return;
    second = comm->submit([&] { comm->all_reduce(more.all(), ReduceOp::sum); });
    second.wait();
  });
  if (me_ != 0) {
    EXPECT_GE(who, 0);
  }
}

TEST_P(Resign, SeveralMayAtOnceAndInDifferentPlaces) {
  const auto comm = GetParam().make();
  Room room;
  const int who = told(*comm, [&] {
    if (me_ == 0) return;
    comm->all_reduce(room.all(), ReduceOp::sum);
  });
  const auto after = GetParam().make();
  told(*after, [&] {
    after->all_reduce(room.few(), ReduceOp::sum);
    if (me_ % 2 == 1) return;
    after->barrier();
  });
  const auto all = GetParam().make();
  told(*all, [] {});
  if (me_ != 0) {
    EXPECT_GE(who, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(, Resign, testing::ValuesIn(kinds()), [](const auto& kind) {
  std::string name = kind.param.name;
  std::ranges::replace(name, ' ', '_');
  return name;
});

TEST(World, APartIsAWorldOfItsOwn) {
  const int rank = test_world().rank(), size = test_world().size(), half = size / 2;
  const bool low = rank < half;
  World part = test_world().part(low ? 0 : 1);
  EXPECT_EQ(part.size(), low ? half : size - half);
  EXPECT_EQ(part.rank(), low ? rank : rank - half);
  EXPECT_EQ(part.local_rank(), test_world().local_rank());
  EXPECT_EQ(&part.heartbeat(), &test_world().heartbeat());
  for (const Backend backend : {Backend::automatic, Backend::mpi}) {
    const auto comm = part.communicator(backend, Log::silent());
    EXPECT_EQ(comm->size(), part.size());
    EXPECT_EQ(comm->rank(), part.rank());
    for (int times = 0; times < (low ? 3 : 1); ++times) {  // no rank of the other part is needed
      float sum = static_cast<float>(rank);
      comm->all_reduce({&sum, 1, DType::f32}, ReduceOp::sum);
      const int first = low ? 0 : half, end = low ? half : size;
      EXPECT_EQ(sum, static_cast<float>((end - 1 + first) * (end - first)) / 2);
    }
  }
}

TEST(World, ACounterGivesEachNumberOnce) {
  Counter counter(test_world());
  const int rank = test_world().rank(), size = test_world().size();
  constexpr int64_t numbers = 50;
  std::vector<int64_t> taken(static_cast<size_t>(numbers), 0);
  for (int64_t number = counter.next(); number < numbers; number = counter.next())
    taken[static_cast<size_t>(number)] += 1;
  test_group().all_reduce({taken.data(), numbers, DType::i64}, ReduceOp::sum);
  EXPECT_EQ(taken, std::vector<int64_t>(static_cast<size_t>(numbers), 1))
      << "rank " << rank << " of " << size;
}

}  // namespace
}  // namespace lab
